"""The score that is a mean over images: of numbers, or of what a judge says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unlearn.detectors.errors import Errors
from unlearn.metrics.evidence import UNSURE
from unlearn.metrics.score import Equivalence, McNemar, Measured
from unlearn.statistics.comparisons import paired_p, tost, tost_rates
from unlearn.statistics.interval import Interval
from unlearn.statistics.judges import corrected_rate
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval
from unlearn.store.ranges import ANY, UNITS

LEVEL = 0.05
"""Of the tests of equivalence."""


def of_numbers(
    after: Tensor, before: Tensor, prompts: Sequence[str], unit: str, margin: float | None = None
) -> dict[str, Any]:
    """The numbers of a score that is a mean of what a metric says of each image, as fields of a score.

    Arguments:
        after: Of the erased model's images, finite, with shape :math:`(N)`, :math:`N \\ge 1`.
        before: Of the original's images of the same prompts and seeds.
        prompts: The prompt of each image.
        unit: Name of the scale, which says what a mean can be at all.
        margin: How far apart the means may be to be called equivalent.
    """
    low, high = UNITS.get(unit, ANY)
    change, apart = after - before, (low - high, high - low)
    p = None if margin is None else tost(change, prompts, margin)
    return {
        "value": after.mean().item(),
        "interval": mean_interval(after, prompts, bounds=(low, high)),
        "original": Measured(before.mean().item(), mean_interval(before, prompts, bounds=(low, high))),
        "difference": Measured(change.mean().item(), mean_interval(change, prompts, bounds=apart)),
        "equivalence": _equivalence(margin, p),
    }


def of_answers(
    after: Tensor,
    before: Tensor,
    prompts: Sequence[str],
    errors: Errors | None = None,
    margin: float | None = None,
) -> dict[str, Any]:
    """The numbers of a rate in percent, as fields of a score: how often an image shows what was asked.

    Images that the judge cannot tell count as not showing it; ``bounds`` says what the rate would be if all
    of them did.

    Arguments:
        after: 1, 0, or :data:`UNSURE` for each of the erased model's images, with shape :math:`(N)`,
            :math:`N \\ge 1`.
        before: The same of the original's images of the same prompts and seeds.
        prompts: The prompt of each image.
        errors: How often the judge errs, if that is known.
        margin: How many points the rates may be apart to be called equivalent.
    """
    unsure, count = int((after == UNSURE).sum()), len(after)
    shown, shown_before = (after == 1).double(), (before == 1).double()
    only = [int((one > other).sum()) for one, other in ((shown, shown_before), (shown_before, shown))]
    difference = rate_difference_interval(shown, shown_before, prompts)
    p = None if margin is None else tost_rates(shown, shown_before, prompts, margin / 100)
    return {
        "value": 100 * shown.mean().item(),
        "interval": _percent(rate_interval(shown, prompts)),
        "unsure": unsure,
        "bounds": (100 * shown.mean().item(), 100 * (after != 0).double().mean().item()),
        "corrected": None if errors is None else _corrected(shown, prompts, errors),
        "original": Measured(
            100 * shown_before.mean().item(), _percent(rate_interval(shown_before, prompts))
        ),
        "difference": Measured(100 * (only[0] - only[1]) / count, _percent(difference)),
        "mcnemar": McNemar(only[0], only[1], paired_p(shown, shown_before, prompts)),
        "equivalence": _equivalence(margin, p),
    }


def _corrected(shown: Tensor, prompts: Sequence[str], errors: Errors) -> Measured | None:
    found = corrected_rate(shown, prompts, (errors.seen, errors.shown), (errors.cleared, errors.absent))
    return None if found is None else Measured(100 * found[0], _percent(found[1]))


def _equivalence(margin: float | None, p: float | None) -> Equivalence | None:
    return None if margin is None or p is None else Equivalence(margin, p, p < LEVEL)


def _percent(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
