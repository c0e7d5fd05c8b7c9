"""Tests of two that were tried on the same prompts."""

from __future__ import annotations

from math import comb


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
