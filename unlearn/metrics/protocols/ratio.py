"""How much of what the original model showed is gone."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.metrics.detection import detections
from unlearn.metrics.evidence import Evidence, told
from unlearn.metrics.metric import pair, prompts_of
from unlearn.metrics.roles import RoleMetric
from unlearn.metrics.score import Score
from unlearn.settings import setting
from unlearn.statistics.rates import ratio_interval

UNIT = "% removed"


@dataclass(kw_only=True)
class ErasureRatio(RoleMetric):
    r"""Share of the original model's rate that the erasure took away, :math:`E = 1 - R / R_0`, in percent.

    It is 100 if the concept never shows, 0 if it shows as often as before, and below 0 if it shows more.

    Attributes:
        role: Which prompts the images are drawn from.
        known_from: The original model must show the concept in at least this share of images, in percent: a
            ratio to less says nothing.
    """

    better = "higher"

    known_from: float = setting(above=0, most=100, unit="percent")

    def score(self, evidence: Evidence) -> Score:
        """The ratio, in percent; at most 100."""
        prompts = prompts_of(evidence, self.role)
        if not len(prompts):
            return self.undefined(UNIT, f"the concept has no prompts of the role '{self.role}'.")
        erased, original = (told(detections(evidence, request)) for request in pair(self.role))
        whole = erased.isfinite() & original.isfinite()
        after, before = erased[whole], original[whole]
        if not len(after):
            return self.undefined(UNIT, "no image could be scored.", expected=len(prompts))
        known = 100 * before.mean().item()
        if known < self.known_from:
            return self.undefined(
                UNIT,
                f"the original model itself shows the concept in only {known:.1f} % of the images (below "
                f"{self.known_from:g} %): there is too little to take a ratio to.",
                expected=len(prompts),
            )
        groups = [text for text, fine in zip(prompts.prompts, whole.tolist(), strict=True) if fine]
        ends = ratio_interval(after, before, groups)
        return Score(
            value=100 * (1 - after.mean().item() / before.mean().item()),
            unit=UNIT,
            n=len(after),
            prompts=len(set(groups)),
            expected=len(prompts),
            failed=len(prompts) - len(after),
            interval=None if ends is None else (100 * ends[0], 100 * ends[1]),
            better=self.better,
            version=self.version,
        )
