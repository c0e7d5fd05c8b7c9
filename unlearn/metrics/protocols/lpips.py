"""ESD's distances of erased and of kept artists' images to the original's, by LPIPS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import Network
from unlearn.detectors.lpips import LPIPS
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import Metric, check_network, pair
from unlearn.metrics.protocols.combined import combined
from unlearn.metrics.roles import RolesMetric
from unlearn.metrics.score import Measured, Score
from unlearn.settings import setting

UNIT = "LPIPS"


@dataclass(kw_only=True)
class PerceptualDistance(RolesMetric):
    r"""Mean LPIPS of each image to the original model's of the same prompt and seed.

    Of images that should stay it is :math:`\mathrm{LPIPS}_u` of ESD, and low where they do. The original
    model's own value is 0.

    References:
        | Erasing Concepts from Diffusion Models (Gandikota et al., 2023)
        | https://arxiv.org/abs/2303.07345

    Attributes:
        features: Key in ``eval.detectors`` of the LPIPS.
        roles: Which prompts the images are drawn from.
    """

    better: ClassVar[Literal["lower", "higher"]] = "lower"

    features: str

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``features`` is an LPIPS."""
        return check_network("features", self.features, detectors, LPIPS)

    def score(self, evidence: Evidence) -> Score:
        """The mean, from 0."""
        prompts = self.prompts(evidence)
        if not prompts:
            return self.undefined(UNIT, f"there are no prompts of the roles {', '.join(self.roles)}.")
        distances = {pair(role)[0]: self._distances(evidence, role) for role in self.roles}
        return self.mean_score(torch.cat(list(distances.values())), None, prompts, UNIT, distances)

    def _distances(self, evidence: Evidence, role: str) -> Tensor:
        if not len(evidence.images[pair(role)[0]]):
            return torch.empty(0, dtype=torch.double)
        erased, original = (evidence.features(self.features, request) for request in pair(role))
        return (erased - original).square().sum(dim=1)


@dataclass(kw_only=True)
class ErasedPerceptualDistance(PerceptualDistance):
    r"""The same of images whose prompts ask for what is erased, :math:`\mathrm{LPIPS}_e`: high where they
    changed.

    That an image changed does not say that the concept is gone, and noise scores best: it stands beside the
    rate of a detector, not in its place.

    Attributes:
        features: Key in ``eval.detectors`` of the LPIPS.
        roles: Which prompts the images are drawn from.
    """

    better = "higher"


@dataclass(kw_only=True)
class PerceptualGap(Metric):
    r""":math:`\mathrm{LPIPS}_d = \mathrm{LPIPS}_e - \mathrm{LPIPS}_u`: how much more of the erased changed
    than of the rest.

    Attributes:
        features: Key in ``eval.detectors`` of the LPIPS.
        erased: Roles whose prompts ask for what is erased.
        kept: Roles whose prompts ask for what is to stay.
    """

    better = "higher"

    features: str
    erased: list[str] = setting(choices=ROLES[:3], kind="role", shape="once")
    kept: list[str] = setting(choices=ROLES[3:], kind="role", shape="once")

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of all roles, of both models."""
        return [request for role in (*self.erased, *self.kept) for request in pair(role)]

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``features`` is an LPIPS."""
        return check_network("features", self.features, detectors, LPIPS)

    def score(self, evidence: Evidence) -> Score:
        """The difference of both means."""
        parts, scores = [], []
        for roles in (self.erased, self.kept):
            one = PerceptualDistance(features=self.features, roles=roles).score(evidence)
            if one.value is None:
                return self.undefined(UNIT, f"no image of the roles {', '.join(roles)} could be scored.")
            parts.append(Measured(one.value, one.interval))
            scores.append(one)
        found = combined(lambda values: values[0] - values[1], parts)
        return Score(
            value=found.value,
            unit=UNIT,
            n=sum(one.n for one in scores),
            prompts=sum(one.prompts for one in scores),
            expected=sum(one.expected for one in scores),
            failed=sum(one.failed for one in scores),
            interval=found.interval,
            better=self.better,
            version=self.version,
        )
