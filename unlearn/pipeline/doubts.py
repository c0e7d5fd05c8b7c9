"""What makes the scores of a run doubtful."""

from __future__ import annotations

import math
from collections.abc import Mapping

from unlearn.attacks.checks import Outcome, doubts
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.metrics.detection import detections
from unlearn.metrics.metric import Evidence, pair
from unlearn.pipeline.attacking import Attacked

BLANK = 2 / 255
"""An image whose values spread less than this shows nothing."""


def blanks(images: Mapping[ImageRequest, ImageSet]) -> list[str]:
    """A warning about image sets with images that show nothing: no detector sees anything in these."""
    warnings = []
    for request, drawn in images.items():
        count = sum(int((batch.std(dim=(1, 2, 3)) < BLANK).sum()) for batch in drawn.batches(64))
        if count:
            warnings.append(
                f"{request}: {count} of {len(drawn)} images are blank. They count as not showing the "
                "concept, which is no erasure."
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
    return [None if math.isnan(value) else bool(value) for value in detections(evidence, request)]


def _alarms(evidence: Evidence) -> dict[str, float]:
    """Share of the original model's images of neighbours in which each concept's detector sees it."""
    _, request = pair("neighbour")
    if request not in evidence.images:
        return {}
    everywhere = range(len(evidence.images[request].prompts))
    return {
        name: evidence.shown(request, everywhere, concept.detector, concept.labels).nanmean().item()
        for name, concept in evidence.concepts.erase.items()
    }
