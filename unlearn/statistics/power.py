"""What so many images could have told, and how many a difference would need."""

from __future__ import annotations

from math import ceil, sqrt

from unlearn.statistics.interval import bisect, quantile

POWER = 0.8
"""How often a true difference is to be found."""

LEAST = 6
"""Changes, all one way, from which on the exact test of McNemar is below .05."""


def needed_pairs(difference: float, changed: float) -> int:
    r"""How many pairs it takes to find a difference of two rates on the same prompts.

    .. math:: \frac{(z_{.975} \sqrt\psi + z_{.8} \sqrt{\psi - \delta^2})^2}{\delta^2}

    References:
        | Sample Size for Testing Differences in Proportions for the Paired-Sample Design (Connor, 1987)
        | https://doi.org/10.2307/2531961

    Arguments:
        difference: :math:`\delta`, of the rates; not 0.
        changed: :math:`\psi`, the share of pairs of which just one shows it, at least as large.

    Returns:
        Pairs, for a test at .05 that finds it in 80 of 100 cases.
    """
    size = abs(difference)
    if not 0 < size <= changed <= 1:
        raise ValueError(f"difference: must be above 0 and at most changed, got {difference} and {changed}")
    root = _test() * sqrt(changed) + _found() * sqrt(changed - size**2)
    return max(ceil(root**2 / size**2), ceil(LEAST / size))


def detectable_paired(n: float, changed: float) -> float | None:
    """What difference of two rates so many pairs could have shown.

    Arguments:
        n: Pairs; no whole number where it is an effective one.
        changed: The share of pairs of which just one shows it.

    Returns:
        The least difference of rates, found in 80 of 100 cases; None if none could.
    """
    if n < LEAST:
        return None

    def enough(size: float) -> float:
        return n + 0.5 - needed_pairs(size, max(changed, size))

    return bisect(enough, 1e-6, 1.0) if enough(1.0) > 0 else None


def needed_unpaired(p: float, q: float) -> int:
    """How many images each of two sets needs for their rates to be told apart, if they share no prompts.

    References:
        | Statistical Methods for Rates and Proportions (Fleiss, Levin & Paik, 2003), equation 4.14

    Arguments:
        p: One rate, in :math:`[0, 1]`.
        q: The other, which differs.
    """
    if p == q or not (0 <= p <= 1 and 0 <= q <= 1):
        raise ValueError(f"rates: must differ and lie in [0, 1], got {p} and {q}")
    middle = (p + q) / 2
    root = _test() * sqrt(2 * middle * (1 - middle)) + _found() * sqrt(p * (1 - p) + q * (1 - q))
    return ceil(root**2 / (p - q) ** 2)


def detectable_unpaired(n: float, rate: float) -> float | None:
    """What difference from a rate so many images in each of two sets could have shown.

    Arguments:
        n: Images of each set.
        rate: That of one of them.

    Returns:
        The least difference, on the side where there is more room; None if none could.
    """
    side = 1 if rate <= 0.5 else -1
    room = max(rate, 1 - rate)

    def enough(size: float) -> float:
        return n + 0.5 - needed_unpaired(rate, rate + side * size)

    return bisect(enough, 1e-6, room) if enough(room) > 0 else None


def _test() -> float:
    return quantile(0.95)


def _found() -> float:
    return quantile(2 * POWER - 1)
