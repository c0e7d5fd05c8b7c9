"""Tests of two, or of several, that were tried on the same prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb, inf

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters
from unlearn.statistics.interval import Interval, bisect, t_tail
from unlearn.statistics.means import standard_error
from unlearn.statistics.rates import rate_difference_interval


def mcnemar_p(gained: int, lost: int) -> float:
    r"""How likely chance alone is to tell two that were tried on the same prompts so far apart, two-sided.

    Only prompts on which the two differ count: by chance, either half goes each way. With :math:`k` on the
    smaller side of :math:`m`,

    .. math:: p = \min\left(1, 2^{1 - m} \sum_{i \le k} \binom{m}{i}\right)

    References:
        | Note on the sampling error of the difference between correlated proportions or percentages (McNemar,
        | 1947); the binomial distribution itself, not its approximation
        | https://doi.org/10.1007/BF02295996

    Arguments:
        gained: Prompts on which only the first succeeds.
        lost: Prompts on which only the second does.

    Returns:
        The probability, in :math:`[0, 1]`; 1 where they nowhere differ.
    """
    differ = gained + lost
    tail = sum(comb(differ, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / (1 << differ))


def paired_p(after: ArrayLike, before: ArrayLike, groups: Sequence[str]) -> float:
    """How likely chance alone tells two rates so far apart that were taken on the same prompts, two-sided.

    McNemar's exact test, where prompts may have several images: by chance, all changes of a prompt might as
    well have gone the other way, all together. With one image a prompt it is :func:`mcnemar_p`.

    Arguments:
        after: 0 or 1, with shape :math:`(N)`.
        before: The same of the images that they are compared with.
        groups: The prompt of each pair.

    Returns:
        The probability, in :math:`[0, 1]`; 1 where no prompt's changes prevail.
    """
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    changes = Clusters.of(differences, groups).sums.round().astype(int)
    sizes = [int(abs(change)) for change in changes if change]
    if len(set(sizes)) < 2:  # the binomial distribution; what follows takes long for thousands
        return mcnemar_p(int((changes > 0).sum()), int((changes < 0).sum()))
    reach = sum(sizes)
    # How many of all ways to turn the prompts have each sum, from -reach to reach; in whole numbers, exactly.
    ways = [0] * (2 * reach + 1)
    ways[reach] = 1
    for size in sizes:
        ways = [
            (ways[i - size] if i >= size else 0) + (ways[i + size] if i + size < len(ways) else 0)
            for i in range(len(ways))
        ]
    seen = abs(int(changes.sum()))
    far = sum(count for i, count in enumerate(ways) if abs(i - reach) >= seen)
    return far / (1 << len(sizes))


def holm(p_values: Sequence[float]) -> list[float]:
    r"""Probabilities of several tests, so that each may be held against one level for all of them together.

    The :math:`i`-th smallest of :math:`m` is multiplied by :math:`m - i + 1`, and none is less than the one
    before it.

    References:
        | A simple sequentially rejective multiple test procedure (Holm, 1979)
        | https://www.jstor.org/stable/4615733

    Arguments:
        p_values: In any order.

    Returns:
        The adjusted ones in the same order, in :math:`[0, 1]`.
    """
    m, adjusted, least = len(p_values), [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (m - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def tost(differences: ArrayLike, groups: Sequence[str], margin: float) -> float | None:
    """Whether a mean difference is within a margin: two one-sided t tests over prompts.

    Arguments:
        differences: Of each pair, with shape :math:`(N)`. For rates there is :func:`tost_rates`.
        groups: The prompt of each pair.
        margin: How large a difference counts as none, in its unit, above 0.

    Returns:
        How likely so small a difference would be seen if the true one were at the margin; small speaks for
        equivalence. It is below .05 where the 90 % interval lies within the margin. None if there are fewer
        than two prompts.
    """
    clusters = Clusters.of(differences, groups)
    if clusters.number < 2:
        return None
    left = _positive(margin) - abs(clusters.mean)
    error = standard_error(clusters)
    return t_tail(left / error if error > 0 else inf if left > 0 else -inf, clusters.number - 1)


def tost_rates(after: ArrayLike, before: ArrayLike, groups: Sequence[str], margin: float) -> float | None:
    """Whether two rates on the same prompts and seeds differ by no more than a margin.

    By the interval of :func:`~unlearn.statistics.rates.rate_difference_interval`, which has a width where
    nothing changed: equivalent at level .05 where its 90 % interval lies within the margin.

    Arguments:
        after: 0 or 1, with shape :math:`(N)`.
        before: The same of the images that they are compared with.
        groups: The prompt of each pair.
        margin: How large a difference of the rates counts as none, in :math:`(0, 1)`.

    Returns:
        The least level at which they are equivalent; 1 where their difference is outside the margin, and None
        if there is one prompt with several images.
    """
    _positive(margin)
    if abs(float(np.mean(np.asarray(after, float) - np.asarray(before, float)))) >= margin:
        return 1.0

    def within(confidence: float) -> float | None:
        found = rate_difference_interval(after, before, groups, confidence)
        return None if found is None else _least(found, margin)

    return None if within(0.5) is None else _level(lambda confidence: within(confidence) or 0.0)


def _least(interval: Interval, margin: float) -> float:
    """How far an interval is from leaving the margin."""
    return min(interval[0] + margin, margin - interval[1])


def _level(within: Callable[[float], float]) -> float:
    """The level of the widest interval that is within."""
    return (1 - bisect(lambda confidence: -within(confidence), 0.0, 1 - 1e-12)) / 2


def _positive(margin: float) -> float:
    if not margin > 0:
        raise ValueError(f"margin: must be above 0, got {margin}")
    return margin
