"""How much of a rate hangs on the detector's threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts.images import ImageRequest
from unlearn.metrics.details import Table, detailed
from unlearn.metrics.detection import belonging
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import pair, prompts_of
from unlearn.metrics.roles import RoleMetric
from unlearn.metrics.score import Score
from unlearn.settings import setting

UNIT = "% over thresholds"


@dataclass(kw_only=True)
class ThresholdCurve(RoleMetric):
    r"""The detection rate at every threshold, and its mean over them: the area under the curve.

    An image shows the concept at a threshold if the probability of any of its labels reaches it. A CLIP's
    rate is not on the curve, since it asks as well that no other label is more probable.

    Attributes:
        role: Which prompts the images are drawn from.
        thresholds: Where the curve is taken; the area is from the first to the last.
    """

    better = "lower"

    thresholds: list[float] = setting(least=0, most=1, shape="rising")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.thresholds) < 2:
            raise ValueError(f"thresholds: needs at least two, got {self.thresholds}")

    def score(self, evidence: Evidence) -> Score:
        """The mean rate, in percent."""
        prompts = prompts_of(evidence, self.role)
        if not len(prompts):
            return self.undefined(UNIT, f"the concept has no prompts of the role '{self.role}'.")
        places = torch.tensor(self.thresholds, dtype=torch.double)
        reached = {request: _reached(evidence, request, places) for request in pair(self.role)}
        areas = {
            request: 100 * torch.trapezoid(one, places, dim=1) / (places[-1] - places[0])
            for request, one in reached.items()
        }
        erased, original = areas.values()
        found = self.mean_score(erased, original, prompts.prompts, UNIT, areas)
        if found.value is None:
            return found
        whole = erased.isfinite() & original.isfinite()
        rates = [(100 * one[whole].mean(dim=0)).tolist() for one in reached.values()]
        rows = [
            (f"{place:g}", (place, after, before))
            for place, after, before in zip(self.thresholds, *rates, strict=True)
        ]
        return detailed(found, curve=Table.of(("threshold", "erased", "original"), rows))


def _reached(evidence: Evidence, request: ImageRequest, thresholds: Tensor) -> Tensor:
    """Whether each image reaches each threshold, with shape :math:`(N, T)`; NaN where the detector failed."""
    prompts = evidence.images[request].prompts
    found = torch.full((len(prompts),), math.nan, dtype=torch.double)
    for name, concept in evidence.concepts.erase.items():
        if index := belonging(prompts, name):
            readout = evidence.readout(concept.detector, request)[index]
            detector = evidence.detector(concept.detector)
            highest = torch.stack([detector.probability(readout, label) for label in concept.labels])
            whole = readout.isfinite().all(dim=1)
            found[index] = highest.amax(dim=0).double().masked_fill(~whole, math.nan)
    return (found[:, None] >= thresholds).double().masked_fill(found.isnan()[:, None], math.nan)
