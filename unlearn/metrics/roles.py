"""What metrics of the images of some roles have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText, Network
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import Metric, check_network, pair, prompts_of
from unlearn.metrics.score import Score
from unlearn.settings import setting


@dataclass(kw_only=True)
class RoleMetric(Metric):
    """A metric of both models' images of the prompts of one role.

    Attributes:
        role: Which prompts the images are drawn from.
    """

    role: str = setting(choices=ROLES)

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of the role, of both models."""
        return list(pair(self.role))


@dataclass(kw_only=True)
class RolesMetric(Metric):
    """A metric of both models' images of the prompts of some roles.

    Attributes:
        roles: Which prompts the images are drawn from: those whose images should not change.
    """

    roles: list[str] = setting(choices=ROLES, kind="role", shape="once")

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of the roles, of both models."""
        return [request for role in self.roles for request in pair(role)]

    def prompts(self, evidence: Evidence) -> list[str]:
        """The prompts of all roles, in their order."""
        return [text for role in self.roles for text in prompts_of(evidence, role).prompts]


@dataclass(kw_only=True)
class ClipMetric(RolesMetric):
    """A metric of images in the eyes of a CLIP.

    Attributes:
        clip: Key in ``eval.detectors`` of the CLIP. Scores of different ones cannot be compared.
        unit: Name of the scale.
    """

    unit: ClassVar[str]

    clip: str

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``clip`` is a CLIP."""
        return check_network("clip", self.clip, detectors, ImageText)

    def score(self, evidence: Evidence) -> Score:
        """The mean over the images of all roles."""
        if prompts := self.prompts(evidence):
            return self.mean(evidence, prompts)
        return self.undefined(self.unit, f"there are no prompts of the roles {', '.join(self.roles)}.")

    @abstractmethod
    def mean(self, evidence: Evidence, prompts: Sequence[str]) -> Score:
        """The mean over the images of all roles, of whose prompts there is one at least."""
