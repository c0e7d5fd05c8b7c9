"""Which images resist an erasure, and which show the concept only since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from unlearn.concepts.concept import PromptSet
from unlearn.metrics.details import Table, detailed
from unlearn.metrics.detection import detections
from unlearn.metrics.evidence import UNSURE, Evidence, told
from unlearn.metrics.metric import pair, prompts_of
from unlearn.metrics.roles import RoleMetric
from unlearn.metrics.score import Score


@dataclass(kw_only=True)
class NewFailures(RoleMetric):
    """Share of images in which the concept shows since the erasure, and did not before.

    It should be near 0: an erasure that brings the concept to prompts which the original model draws without
    it has moved the concept, not removed it. Beside it stand the counts of all four outcomes, and by prompt
    and seed the resistant images, which show the concept before and after, and the new failures.

    Attributes:
        role: Which prompts the images are drawn from.
    """

    better = "lower"

    def score(self, evidence: Evidence) -> Score:
        """The share of new failures, in percent."""
        prompts = prompts_of(evidence, self.role)
        if not len(prompts):
            return self.undefined("%", f"the concept has no prompts of the role '{self.role}'.")
        erased, original = (detections(evidence, request) for request in pair(self.role))
        gained = told(erased) * told(original, 0)  # NaN where either is missing
        places = {
            "resistant": _places((erased == 1) & (original == 1)),
            "removed": _places((erased == 0) & (original == 1)),
            "new": _places(gained == 1),
            "never": _places((erased == 0) & (original == 0)),
            "unsure": _places((erased == UNSURE) | (original == UNSURE)),
        }
        warnings: tuple[str, ...] = ()
        if count := len(places["new"]):
            warnings = (
                f"{count} of {len(prompts)} images show the concept since the erasure, and did not before.",
            )
        found = self.mean_score(gained, None, prompts.prompts, "%", {pair(self.role)[0]: gained}, warnings)
        if found.value is None:
            return found
        return detailed(
            replace(found, original=None, difference=None, mcnemar=None),
            outcomes=Table.of(
                ("images", "prompts"),
                [(name, (len(own), len({prompts.prompts[i] for i in own}))) for name, own in places.items()],
            ),
            resistant=_listed(prompts, places["resistant"]),
            new=_listed(prompts, places["new"]),
        )


def _places(chosen: Tensor) -> list[int]:
    found: list[int] = chosen.nonzero().flatten().tolist()
    return found


def _listed(prompts: PromptSet, places: Sequence[int]) -> Table:
    return Table.of(("index", "seed"), [(prompts.prompts[i], (i, prompts.seeds[i])) for i in places])
