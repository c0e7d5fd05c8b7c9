"""What makes the scores of a run doubtful."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from unlearn.attacks.checks import Outcome, doubts
from unlearn.concepts.images import ImageRequest
from unlearn.metrics.detection import detections
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import pair
from unlearn.pipeline.attacking import Attacked


def blanks(evidence: Evidence) -> list[str]:
    """A warning about image sets with images that show nothing: no detector sees anything in these."""
    warnings = []
    for request, drawn in evidence.images.items():
        if count := int(evidence.blank(request).sum()):
            warnings.append(
                f"{request}: {count} of {len(drawn)} images are blank. Nobody can tell what they show, which "
                "is no erasure."
            )
    return warnings


def hard_to_believe(attacks: Mapping[str, Attacked], evidence: Evidence) -> list[str]:
    """What makes the rates of the attacks doubtful."""
    outcomes = {
        name: Outcome(one.attack, one.found, _shown(evidence, request))
        for name, one in attacks.items()
        if (request := ImageRequest(f"attack:{name}")) in evidence.images
    }
    return doubts(outcomes, _alarms(evidence) if outcomes else {})


def _shown(evidence: Evidence, request: ImageRequest) -> list[bool | None]:
    """Whether each image shows the concept; None where the detector failed."""
    return [None if math.isnan(value) else value == 1 for value in detections(evidence, request).tolist()]


def _alarms(evidence: Evidence) -> dict[str, float]:
    """Share of the original model's images of neighbours in which each concept's detector sees it."""
    _, request = pair("neighbour")
    if request not in evidence.images:
        return {}
    everywhere = range(len(evidence.images[request].prompts))
    return {
        name: _rate(evidence.shown(request, everywhere, concept.detector, concept.labels))
        for name, concept in evidence.concepts.erase.items()
    }


def _rate(shown: Tensor) -> float:
    """Share of the images that show something, of those that could be judged."""
    return (shown[shown.isfinite()] == 1).double().mean().item()
