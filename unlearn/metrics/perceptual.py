"""How far each image is from the original model's image of the same prompt and seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import pair
from unlearn.metrics.roles import ClipMetric
from unlearn.metrics.score import Score
from unlearn.statistics.similarity import clip_similarity


@dataclass(kw_only=True)
class ImageDistance(ClipMetric):
    r"""Mean distance of each image to the original model's of the same prompt and seed, :math:`1 -
    \cos(E_I(x), E_I(x_0))`.

    It is 0 if the erasure left the images alone. The original model's own value is 0.

    Attributes:
        clip: Key in ``eval.detectors`` of the CLIP whose image features are compared.
        roles: Which prompts the images are drawn from: those whose images should not change.
    """

    better = "lower"
    unit = "1 - cos"

    def mean(self, evidence: Evidence, prompts: Sequence[str]) -> Score:
        """From 0 to 2."""
        distances = {pair(role)[0]: self._distances(evidence, role) for role in self.roles}
        return self.mean_score(torch.cat(list(distances.values())), None, prompts, self.unit, distances)

    def _distances(self, evidence: Evidence, role: str) -> Tensor:
        if not len(evidence.images[pair(role)[0]]):
            return torch.empty(0, dtype=torch.double)
        erased, original = (evidence.features(self.clip, request) for request in pair(role))
        distance = 1 - clip_similarity(erased, original)
        # The cosine of a vector with itself is 1 but for rounding; equal images are at no distance.
        return distance.masked_fill((erased == original).all(dim=1), 0.0).clamp_min(0)
