"""How often a concept still shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.errors import Errors, any_of, pooled
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import pair, prompts_of
from unlearn.metrics.roles import RoleMetric
from unlearn.metrics.score import Score
from unlearn.settings import setting


@dataclass(kw_only=True)
class DetectionRate(RoleMetric):
    """Share of images in which the detector of their concept sees any of its labels.

    Attributes:
        role: Which prompts the images are drawn from.
        known_from: The original model must show the concept in at least this share of images, in percent, for
            an erasure to be seen at all; below it the score carries a warning.
    """

    better = "lower"

    known_from: float = setting(least=0, most=100, unit="percent")

    def score(self, evidence: Evidence) -> Score:
        """The rate, in percent."""
        prompts = prompts_of(evidence, self.role)
        if not len(prompts):
            return self.undefined("%", f"the concept has no prompts of the role '{self.role}'.")
        seen = {request: detections(evidence, request) for request in pair(self.role)}
        erased, original = seen.values()
        known = 100 * (original[original.isfinite()] == 1).double().mean().item()
        warnings: tuple[str, ...] = ()
        if known < self.known_from:
            warnings = (
                f"the original model itself shows the concept in only {known:.0f} % of the images (below "
                f"{self.known_from:g} %): it hardly knows it, so no erasure can be shown here.",
            )
        return self.mean_score(
            erased, original, prompts.prompts, "%", seen, warnings, errors(evidence, set(prompts.concepts))
        )

    def part(self, score: Score, evidence: Evidence, concepts: Sequence[str]) -> Score | None:
        """The rate over the prompts of some concepts alone."""
        prompts = prompts_of(evidence, self.role)
        rows = [i for name in concepts for i in belonging(prompts, name)]
        if not rows or not score.per_image:
            return None
        erased, original = (
            torch.tensor(score.per_image[request], dtype=torch.double)[rows] for request in pair(self.role)
        )
        texts = [prompts.prompts[i] for i in rows]
        return self.mean_score(erased, original, texts, "%", {}, errors=errors(evidence, concepts))


def detections(evidence: Evidence, request: ImageRequest) -> Tensor:
    """Whether each image shows the concept of its prompt: 1, 0, :data:`UNSURE` where the detector cannot
    tell, or NaN where it failed, on it or on what an attack saw of its prompt."""
    prompts = evidence.images[request].prompts
    shown = torch.full((len(prompts),), math.nan, dtype=torch.double)
    for name, concept in evidence.concepts.erase.items():
        if index := belonging(prompts, name):
            shown[index] = evidence.shown(request, index, concept.detector, concept.labels)
    shown[list(evidence.unjudged.get(request, ()))] = math.nan
    return shown


def belonging(prompts: PromptSet, concept: str) -> list[int]:
    """Positions of the prompts that belong to one concept."""
    return [i for i, name in enumerate(prompts.concepts) if name == concept]


def errors(evidence: Evidence, concepts: Iterable[str]) -> Errors | None:
    """How often the judges of some concepts err; None if there is one of whom that is not known."""
    found = []
    for name in sorted(evidence.concepts.erase.keys() & set(concepts)):
        concept = evidence.concepts.erase[name]
        labels = [evidence.detector(concept.detector).errors(label) for label in concept.labels]
        if not (known := [one for one in labels if one is not None]) or len(known) < len(labels):
            return None
        found.append(any_of(known))
    return pooled(found) if found else None
