"""How far each image is from the original model's image of the same prompt and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts import ConceptSet
from unlearn.detectors.detector import ImageText
from unlearn.images import ImageRequest
from unlearn.metrics.functional import clip_similarity
from unlearn.metrics.metric import (
    Evidence,
    Metric,
    Network,
    Score,
    check_network,
    check_roles,
    pair,
    prompts_of,
)


@dataclass(kw_only=True)
class ImageDistance(Metric):
    r"""Mean distance of each image to the original model's of the same prompt and seed, :math:`1 -
    \cos(E_I(x), E_I(x_0))`.

    It is 0 if the erasure left the images alone. The original model's own value is 0.

    Attributes:
        clip: Key in ``eval.detectors`` of the CLIP whose image features are compared.
        roles: Which prompts the images are drawn from: those whose images should not change.
    """

    better = "lower"

    clip: str
    roles: list[str]

    def __post_init__(self) -> None:
        check_roles(self.roles)

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of the roles, of both models."""
        return [request for role in self.roles for request in pair(role)]

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``clip`` is a CLIP."""
        return check_network("clip", self.clip, detectors, ImageText)

    def score(self, evidence: Evidence) -> Score:
        """The mean distance, from 0 to 2."""
        prompts = [text for role in self.roles for text in prompts_of(evidence, role).prompts]
        if not prompts:
            return self.undefined("1 - cos", f"there are no prompts of the roles {', '.join(self.roles)}.")
        distances = {pair(role)[0]: self._distances(evidence, role) for role in self.roles}
        return self.mean_score(torch.cat(list(distances.values())), None, prompts, "1 - cos", distances)

    def _distances(self, evidence: Evidence, role: str) -> Tensor:
        if not len(evidence.images[pair(role)[0]]):
            return torch.empty(0, dtype=torch.double)
        erased, original = (evidence.features(self.clip, request) for request in pair(role))
        distance = 1 - clip_similarity(erased, original)
        # The cosine of a vector with itself is 1 but for rounding; equal images are at no distance.
        return distance.masked_fill((erased == original).all(dim=1), 0.0).clamp_min(0)
