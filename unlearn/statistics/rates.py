"""Rates, their differences, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from unlearn.statistics.interval import Interval, Z
from unlearn.statistics.means import mean_interval


def wilson_interval(successes: int, n: int) -> Interval:
    r"""Wilson's score interval for a rate, at 95 %.

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}

    References:
        | Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927)
        | https://doi.org/10.1080/01621459.1927.10502953

    Arguments:
        successes: How often it happened, from 0 to ``n``.
        n: How often it could have, at least 1.

    Returns:
        Both ends, in :math:`[0, 1]`.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"successes: must be from 0 to n, and n at least 1, got {successes} of {n}")
    p = successes / n
    centre = p + Z**2 / (2 * n)
    half = Z * ((p * (1 - p) + Z**2 / (4 * n)) / n) ** 0.5
    scale = 1 + Z**2 / n
    # At 0 and n the formula is exactly 0 and 1; rounding must not take the value out of its interval.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def rate_interval(outcomes: Tensor, groups: Sequence[str]) -> Interval | None:
    """Interval of a rate: Wilson's if each group has one outcome, else that of :func:`mean_interval`.

    Where all outcomes are alike no resampling can show what was missed; Wilson's for the number of groups
    can.

    Arguments:
        outcomes: 0 or 1, with shape :math:`(N)`.
        groups: The prompt of each outcome.
    """
    distinct = len(set(groups))
    hits = int(outcomes.sum().item())
    if distinct == len(outcomes):
        return wilson_interval(hits, len(outcomes))
    if hits in (0, len(outcomes)):
        return wilson_interval(distinct if hits else 0, distinct)
    return mean_interval(outcomes, groups)


def rate_difference_interval(differences: Tensor, groups: Sequence[str]) -> Interval | None:
    """Interval of a paired difference of rates, by the bootstrap of :func:`mean_interval`.

    Where all pairs changed alike, Wilson's for the share of groups that changed bounds it from the inner
    side.

    Arguments:
        differences: -1, 0 or 1, with shape :math:`(N)`.
        groups: The prompt of each pair.
    """
    first = differences[0].item()
    if first != 0 and bool((differences == first).all()):
        share = wilson_interval(len(set(groups)), len(set(groups)))[0]
        return (first, first * share) if first < 0 else (first * share, first)
    return mean_interval(differences, groups)
