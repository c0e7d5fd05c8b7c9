"""One number for erased, general and specific: the harmonic means of MACE and EraseBench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText, Network
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.detection import belonging, detections
from unlearn.metrics.evidence import Evidence, told
from unlearn.metrics.metric import Metric, check_network, pair, prompts_of
from unlearn.metrics.protocols.combined import combined, rescaled
from unlearn.metrics.score import Measured, Score
from unlearn.settings import setting
from unlearn.statistics.rates import rate_interval

UNIT = "% harmonic"
LEAST = 1e-6
"""The least share that is told from 0."""

CONFIDENCE = 0.97
"""Of the intervals of the parts: with it, that of a harmonic mean of two or three of them covers in 93 to 97
of a hundred simulations, from 16 images a part."""


def harmonic_mean(shares: Sequence[Measured]) -> Measured:
    r"""The harmonic mean, :math:`n / \sum 1 / x_i`; 0 if a share is.

    Its interval comes from that of :math:`\sum 1 / x_i`, which is as skewed as its parts, all to one side.
    Where a share is 0, that sum has no end, and the interval goes up to the mean of all upper ends.

    Arguments:
        shares: From 0 to 1, the higher the better: :math:`1 - \mathrm{Acc}_e` for what is erased. Their
            intervals are at :data:`CONFIDENCE`.
    """
    ends = [share.interval[1] for share in shares if share.interval is not None]
    if min(share.value for share in shares) <= 0 and len(ends) == len(shares):
        return Measured(0.0, (0.0, len(ends) / sum(1 / max(end, LEAST) for end in ends)))
    total = combined(lambda values: sum(1 / max(value, LEAST) for value in values), shares)
    sums = total.interval

    def inverse(number: float) -> float:
        return 0.0 if number >= 1 / LEAST else len(shares) / number

    return Measured(inverse(total.value), None if sums is None else (inverse(sums[1]), inverse(sums[0])))


@dataclass(kw_only=True)
class HarmonicMean(Metric):
    r"""The harmonic mean of the shares that are as they should be.

    For each concept, and then the mean over concepts:

    .. math:: H = \frac{n}{\sum_e (1 - \mathrm{Acc}_e)^{-1} + \sum_s \mathrm{Acc}_s^{-1}}

    With the plain prompts, their synonyms and the neighbours it is MACE's :math:`H_o`, which EraseBench calls
    HM; with the plain prompts and the neighbours, :math:`H_c`. Here an accuracy is what the detector decides;
    MACE's script averages probabilities for objects, and counts images with a face only for celebrities. The
    mean over concepts is not the harmonic mean of their averages, which some tables print.

    References:
        | MACE: Mass Concept Erasure in Diffusion Models (Lu et al., 2024)
        | https://arxiv.org/abs/2403.06135

    Attributes:
        erased: Roles whose images should not show the concept.
        kept: Roles whose images should show what is asked.
        clip: Key in ``eval.detectors`` of the CLIP, for what a concept's own detector cannot tell.
    """

    better = "higher"

    erased: list[str] = setting(choices=ROLES[:3], kind="role", shape="once")
    kept: list[str] = setting(choices=ROLES[3:], kind="role", shape="once")
    clip: str

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of all roles, of both models."""
        return [request for role in (*self.erased, *self.kept) for request in pair(role)]

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``clip`` is a CLIP."""
        return check_network("clip", self.clip, detectors, ImageText)

    def score(self, evidence: Evidence) -> Score:
        """The mean over concepts, in percent."""
        roles = (*self.erased, *self.kept)
        prompts = {role: prompts_of(evidence, role) for role in roles}
        right = {role: self._right(evidence, role) for role in roles}
        parts: list[list[Measured]] = [[], []]  # of the erased model and of the original
        n = expected = 0
        for name in evidence.concepts.erase:
            for role in roles:
                own = torch.tensor(belonging(prompts[role], name), dtype=torch.long)
                asked = own[right[role][2][own] == 1]
                fine = asked[torch.stack(right[role][:2])[:, asked].isfinite().all(dim=0)]
                if not len(fine):
                    return self.undefined(
                        UNIT, f"no image of '{name}' and the role '{role}' could be scored.", expected
                    )
                n, expected = n + len(fine), expected + len(asked)
                texts = [prompts[role].prompts[i] for i in fine.tolist()]
                for found, values in zip(parts, right[role][:2], strict=True):
                    ends = rate_interval(values[fine], texts, CONFIDENCE)
                    found.append(Measured(values[fine].mean().item(), ends))
        firsts = range(0, len(parts[0]), len(roles))
        after, before = (
            rescaled(combined(fmean, [harmonic_mean(found[i : i + len(roles)]) for i in firsts]), 100)
            for found in parts
        )
        return Score(
            value=after.value,
            unit=UNIT,
            n=n,
            prompts=len({text for one in prompts.values() for text in one.prompts}),
            expected=expected,
            failed=expected - n,
            interval=after.interval,
            better=self.better,
            version=self.version,
            original=before,
            difference=Measured(after.value - before.value, None),
            warnings=self._nothing(parts[0], list(evidence.concepts.erase)),
        )

    def _right(self, evidence: Evidence, role: str) -> tuple[Tensor, Tensor, Tensor]:
        """Whether each image of both models is as it should be, and whether anything was asked of it."""
        requests = pair(role)
        if role in self.erased:
            erased, original = (told(detections(evidence, request), 0) for request in requests)
            return erased, original, torch.ones(len(erased))
        asked = torch.tensor([float(bool(label)) for label in evidence.images[requests[0]].prompts.shows])
        said = ConceptAccuracy(role=role, clip=self.clip).score(evidence).per_image
        nothing = torch.full((len(asked),), torch.nan, dtype=torch.double)
        erased, original = (
            told(torch.tensor(said[request], dtype=torch.double)) if request in said else nothing
            for request in requests
        )
        return erased, original, asked

    def _nothing(self, parts: Sequence[Measured], concepts: Sequence[str]) -> tuple[str, ...]:
        """Which share is 0, so that the whole is."""
        roles = (*self.erased, *self.kept)
        return tuple(
            f"it is 0 for '{concepts[place // len(roles)]}', since no image of the role "
            f"'{roles[place % len(roles)]}' is as it should be."
            for place, part in enumerate(parts)
            if part.value <= 0
        )
