"""What a judge's own errors make of a rate, and how far two judges agree."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters
from unlearn.statistics.interval import CONFIDENCE, Interval, quantile
from unlearn.statistics.rates import wilson_interval

Count = tuple[float, float]
"""How often, of how many."""

Found = tuple[float, Interval]
"""A value and its interval."""


def rogan_gladen(
    successes: float, n: float, sensitivity: Count, specificity: Count, z: float = quantile(CONFIDENCE)
) -> Found | None:
    r"""The rate that a judge with these errors has turned into the one that it sees.

    .. math:: \frac{p + Sp - 1}{Se + Sp - 1}

    The interval holds the errors of all three. One success and one failure are put to each of the judge's own
    counts, and :math:`z^2 / 2` of both to those of the images.

    References:
        | Estimating prevalence from the results of a screening test (Rogan & Gladen, 1978)
        | https://doi.org/10.1093/oxfordjournals.aje.a112510
        | Confidence limits for prevalence of disease adjusted for estimated sensitivity and specificity
        | (Lang & Reiczigel, 2014)
        | https://doi.org/10.1016/j.prevetmed.2013.09.015

    Arguments:
        successes: Images in which the judge sees the concept.
        n: Images; no whole number where it is an effective one.
        sensitivity: Of how many images that show it the judge has seen how many: (seen, of).
        specificity: Of how many images that do not show it the judge has passed how many: (passed, of).
        z: How many standard errors it reaches.

    Returns:
        The rate and its interval, in :math:`[0, 1]`; None if the judge does no better than chance.
    """
    for name, (count, of) in {
        "successes": (successes, n),
        "sensitivity": sensitivity,
        "specificity": specificity,
    }.items():
        if not 0 <= count <= of or of <= 0:
            raise ValueError(f"{name}: must be from 0 to the number that it is of, got {count} of {of}")
    power = sensitivity[0] / sensitivity[1] + specificity[0] / specificity[1] - 1
    n_se, n_sp, n_all = sensitivity[1] + 2, specificity[1] + 2, n + z**2
    se, sp, p = (sensitivity[0] + 1) / n_se, (specificity[0] + 1) / n_sp, (successes + z**2 / 2) / n_all
    if power <= 0 or se + sp <= 1:
        return None
    value = (successes / n + specificity[0] / specificity[1] - 1) / power
    rate = (p + sp - 1) / (se + sp - 1)
    error_se, error_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    variance = p * (1 - p) / n_all + (1 - rate) ** 2 * error_sp + rate**2 * error_se
    middle = rate + 2 * z**2 * (rate * error_se - (1 - rate) * error_sp)
    reach = z * sqrt(variance) / (se + sp - 1)
    value = float(np.clip(value, 0, 1))
    low, high = (float(np.clip(middle + side * reach, 0, 1)) for side in (-1, 1))
    return value, (min(low, value), max(high, value))


def corrected_rate(
    outcomes: ArrayLike,
    groups: Sequence[str],
    sensitivity: Count,
    specificity: Count,
    confidence: float = CONFIDENCE,
) -> Found | None:
    """:func:`rogan_gladen` over prompts, which may have several images each.

    Arguments:
        outcomes: 0 or 1, with shape :math:`(N)`.
        groups: The prompt of each.
        sensitivity: As (seen, of).
        specificity: As (passed, of).
        confidence: How often the interval is to cover.

    Returns:
        The rate and its interval; None if the judge does no better than chance, or there is one prompt with
        several images.
    """
    clusters = Clusters.of(outcomes, groups)
    if clusters.number < 2 and not clusters.single:
        return None
    n = clusters.effective()
    reach = quantile(confidence, clusters.freedom)
    return rogan_gladen(clusters.mean * n, n, sensitivity, specificity, reach)


def kappa(
    first: ArrayLike, second: ArrayLike, groups: Sequence[str], confidence: float = CONFIDENCE
) -> Found | None:
    r"""How far two judges agree beyond chance: Cohen's :math:`\kappa = (p_o - p_e) / (1 - p_e)`.

    Its variance is that of its first-order expansion over prompts. The interval is Wilson's of the agreement
    :math:`p_o`, for as many images as have that variance: it stays within bounds, and has a width where both
    agree on all.

    References:
        | A coefficient of agreement for nominal scales (Cohen, 1960)
        | https://doi.org/10.1177/001316446002000104

    Arguments:
        first: 0 or 1, with shape :math:`(N)`.
        second: The same of the other judge.
        groups: The prompt of each image.
        confidence: How often the interval is to cover.

    Returns:
        The value, at most 1, and its interval; None where both say the same of all images, so that chance
        alone explains it, or where there is one prompt with several images.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    p, q = x.mean(), y.mean()
    agree = (x == y).astype(np.float64)
    seen, chance = agree.mean(), p * q + (1 - p) * (1 - q)
    if chance == 1:
        return None
    slope = (x - p) * (2 * q - 1) + (y - q) * (2 * p - 1)
    influence = (agree - seen) - (1 - seen) / (1 - chance) * slope
    clusters = Clusters.of(influence, groups)
    if clusters.number < 2 and not clusters.single:
        return None
    variance = float((influence**2).mean()) / clusters.effective()
    # Where it does not vary, prompts count: both agree on all, or one always says the same.
    n = max(1.0, seen * (1 - seen) / variance) if variance > 1e-12 else float(clusters.number)
    low, high = wilson_interval(seen * n, n, quantile(confidence, clusters.freedom))
    return float(1 - (1 - seen) / (1 - chance)), (
        max(-1.0, float(1 - (1 - low) / (1 - chance))),
        min(1.0, float(1 - (1 - high) / (1 - chance))),
    )
