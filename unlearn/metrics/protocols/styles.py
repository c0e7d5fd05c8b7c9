"""MACE's scores of erased and kept artists, by CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText, Network
from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import Metric, check_network, pair
from unlearn.metrics.protocols.combined import combined
from unlearn.metrics.score import Measured, Score
from unlearn.settings import setting


@dataclass(kw_only=True)
class ErasedCLIPScore(CLIPScore):
    r"""MACE's :math:`\mathrm{CLIP}_e`: the CLIP score of images whose prompts ask for what is erased.

    A low score says that the image is not what the prompt says, and so does noise: it stands beside the rate
    of a detector, not in its place.

    References:
        | MACE: Mass Concept Erasure in Diffusion Models (Lu et al., 2024)
        | https://arxiv.org/abs/2403.06135

    Attributes:
        clip: Key in ``eval.detectors`` of the CLIP. Scores of different ones cannot be compared.
        roles: Which prompts the images are drawn from: those that ask for what is erased.
    """

    better = "lower"


@dataclass(kw_only=True)
class StyleGap(Metric):
    r"""MACE's :math:`H_a = \mathrm{CLIP}_s - \mathrm{CLIP}_e`: a difference, in spite of its name.

    References:
        | MACE: Mass Concept Erasure in Diffusion Models (Lu et al., 2024)
        | https://arxiv.org/abs/2403.06135

    Attributes:
        clip: Key in ``eval.detectors`` of the CLIP. Scores of different ones cannot be compared.
        erased: Roles whose prompts ask for what is erased.
        kept: Roles whose prompts ask for what is to stay.
    """

    better = "higher"

    clip: str
    erased: list[str] = setting(choices=ROLES[:3], kind="role", shape="once")
    kept: list[str] = setting(choices=ROLES[3:], kind="role", shape="once")

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of all roles, of both models."""
        return [request for role in (*self.erased, *self.kept) for request in pair(role)]

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``clip`` is a CLIP."""
        return check_network("clip", self.clip, detectors, ImageText)

    def score(self, evidence: Evidence) -> Score:
        """In hundredths of a cosine."""
        gone, kept = (
            CLIPScore(clip=self.clip, roles=roles).score(evidence) for roles in (self.erased, self.kept)
        )
        for one, roles in ((gone, self.erased), (kept, self.kept)):
            if one.value is None:
                return self.undefined(one.unit, f"no image of the roles {', '.join(roles)} could be scored.")
        value = _minus(_value(kept), _value(gone))
        assert value is not None
        return Score(
            value=value.value,
            unit=kept.unit,
            n=kept.n + gone.n,
            prompts=kept.prompts + gone.prompts,
            expected=kept.expected + gone.expected,
            failed=kept.failed + gone.failed,
            interval=value.interval,
            better=self.better,
            version=self.version,
            original=_minus(kept.original, gone.original),
            difference=_minus(kept.difference, gone.difference),
        )


def _value(score: Score) -> Measured | None:
    return None if score.value is None else Measured(score.value, score.interval)


def _minus(kept: Measured | None, gone: Measured | None) -> Measured | None:
    if kept is None or gone is None:
        return None
    return combined(lambda values: values[0] - values[1], [kept, gone])
