"""Whether what must stay is still drawn as asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText, Network
from unlearn.metrics.detection import belonging
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import check_network, pair, prompts_of
from unlearn.metrics.roles import RoleMetric
from unlearn.metrics.score import Score
from unlearn.settings import setting


@dataclass(kw_only=True)
class ConceptAccuracy(RoleMetric):
    """Share of images that show what their prompt asks for: specificity, on neighbours or on unrelated
    concepts.

    Prompts that name no label (an empty ``shows``) are not counted. A label is asked of the detector of the
    prompt's concept; of the CLIP if that detector was not trained to tell it, as one of nudity cannot tell a
    castle.

    Attributes:
        role: Which prompts the images are drawn from.
        clip: Key in ``eval.detectors`` of the CLIP.
        margin: How far from the original's the accuracy may be for the erasure to be called specific; None
            asks for no such test.
    """

    better = "higher"

    clip: str
    margin: float | None = setting(default=None, above=0, most=100, unit="percentage points")

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``clip`` is a CLIP."""
        return check_network("clip", self.clip, detectors, ImageText)

    def score(self, evidence: Evidence) -> Score:
        """The accuracy, in percent."""
        prompts = prompts_of(evidence, self.role)
        asked = [i for i, label in enumerate(prompts.shows) if label]
        if not asked:
            return self.undefined(
                "%", f"no prompt of the role '{self.role}' says what its image should show."
            )
        correct = {request: self._correct(evidence, request) for request in pair(self.role)}
        erased, original = (values[asked] for values in correct.values())
        return self.mean_score(
            erased, original, [prompts.prompts[i] for i in asked], "%", correct, margin=self.margin
        )

    def _correct(self, evidence: Evidence, request: ImageRequest) -> Tensor:
        """1, 0, UNSURE where the detector cannot tell, or NaN where nothing was asked or it failed."""
        prompts = evidence.images[request].prompts
        correct = torch.full((len(prompts),), math.nan, dtype=torch.double)
        for name, concept in evidence.concepts.erase.items():
            own = belonging(prompts, name)
            for label in sorted({prompts.shows[i] for i in own} - {""}):
                index = [i for i in own if prompts.shows[i] == label]
                told = evidence.detector(concept.detector).knows(label)
                judge = concept.detector if told else self.clip
                correct[index] = evidence.shown(request, index, judge, [label])
        return correct
