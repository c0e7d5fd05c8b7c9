"""The score that is a mean over images: of numbers, or of what a judge says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from unlearn.detectors.errors import Errors
from unlearn.metrics.evidence import UNSURE
from unlearn.metrics.score import McNemar, Measured
from unlearn.statistics.comparisons import mcnemar_p
from unlearn.statistics.interval import Interval
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval


def of_numbers(after: Tensor, before: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
    """The numbers of a score that is a mean of what a metric says of each image.

    Arguments:
        after: Of the erased model's images, finite, with shape :math:`(N)`, :math:`N \\ge 1`.
        before: Of the original's images of the same prompts and seeds.
        prompts: The prompt of each image.
    """
    return {
        "value": after.mean().item(),
        "interval": mean_interval(after, prompts),
        "original": Measured(before.mean().item(), mean_interval(before, prompts)),
        "difference": Measured((after - before).mean().item(), mean_interval(after - before, prompts)),
    }


def of_answers(
    after: Tensor, before: Tensor, prompts: Sequence[str], errors: Errors | None = None
) -> dict[str, Any]:
    """The numbers of a rate, in percent: how often a judge says that an image shows what was asked.

    Images that it cannot tell anything about count as not showing it; ``bounds`` says what the rate would be
    if all of them did.

    Arguments:
        after: 1, 0, or :data:`UNSURE` for each of the erased model's images, with shape :math:`(N)`,
            :math:`N \\ge 1`.
        before: The same of the original's images of the same prompts and seeds.
        prompts: The prompt of each image.
        errors: How often the judge errs, if that is known.
    """
    unsure = int((after == UNSURE).sum())
    shown, shown_before = (after == 1).double(), (before == 1).double()
    value = 100 * shown.mean().item()
    only_erased = int(((after == 1) & (before != 1)).sum())
    only_original = int(((before == 1) & (after != 1)).sum())
    return {
        "value": value,
        "interval": _percent(rate_interval(shown, prompts)),
        "unsure": unsure,
        "bounds": (value, value + 100 * unsure / len(after)),
        "corrected": None if errors is None else corrected(shown, prompts, errors),
        "original": Measured(
            100 * shown_before.mean().item(), _percent(rate_interval(shown_before, prompts))
        ),
        "difference": Measured(
            100 * (shown - shown_before).mean().item(),
            _percent(rate_difference_interval(shown, shown_before, prompts)),
        ),
        "mcnemar": McNemar(only_erased, only_original, mcnemar_p(only_erased, only_original)),
    }


def _percent(interval: Interval | None) -> Interval | None:
    return None if interval is None else (100 * interval[0], 100 * interval[1])
