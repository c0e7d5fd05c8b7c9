"""Rates, their paired differences and ratios, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters
from unlearn.statistics.interval import CONFIDENCE, Interval, quantile


def wilson_interval(successes: float, n: float, z: float = quantile(CONFIDENCE)) -> Interval:
    r"""Wilson's score interval for a rate, at 95 %.

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p (1 - p) / n + z^2 / 4n^2}}{1 + z^2 / n}

    References:
        | Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927)
        | https://doi.org/10.1080/01621459.1927.10502953

    Arguments:
        successes: How often it happened, from 0 to ``n``.
        n: How often it could have, at least 1; no whole number where it is an effective one.
        z: How many standard errors it reaches.

    Returns:
        Both ends, in :math:`[0, 1]`.
    """
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"successes: must be from 0 to n, and n at least 1, got {successes} of {n}")
    p = successes / n
    centre = p + z**2 / (2 * n)
    half = z * ((p * (1 - p) + z**2 / (4 * n)) / n) ** 0.5
    scale = 1 + z**2 / n
    # At 0 and n the formula is exactly 0 and 1; rounding must not take the value out of its interval.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return low, high


def rate_interval(
    outcomes: ArrayLike, groups: Sequence[str], confidence: float = CONFIDENCE
) -> Interval | None:
    """Interval of a rate over prompts, which may have several images each.

    Wilson's, for as many images as would tell as much if they were independent, and with Student's t over the
    prompts. Where prompts have several images and all of these are alike, no correlation can be seen: then it
    is Clopper's and Pearson's for the number of prompts.

    Arguments:
        outcomes: 0 or 1, with shape :math:`(N)`.
        groups: The prompt of each outcome.
        confidence: How often it is to cover.

    Returns:
        Both ends; None if there is one prompt with several images.
    """
    clusters = Clusters.of(outcomes, groups)
    return None if clusters.number < 2 and not clusters.single else _rate(clusters, confidence)


def _rate(clusters: Clusters, confidence: float) -> Interval:
    n, p = clusters.effective(), clusters.mean
    if not clusters.single and p in (0.0, 1.0):
        most = 1 - ((1 - confidence) / 2) ** (1 / clusters.number)
        return (0.0, most) if p == 0 else (1 - most, 1.0)
    return wilson_interval(p * n, n, quantile(confidence, clusters.freedom))


def rate_difference_interval(
    after: ArrayLike, before: ArrayLike, groups: Sequence[str], confidence: float = CONFIDENCE
) -> Interval | None:
    r"""Interval of a difference of two rates on the same prompts and seeds.

    Newcombe's tenth method: the intervals of both rates, put together with their correlation :math:`\phi`.
    Here these are those of :func:`rate_interval`, so that prompts are what is sampled. It has a width even
    where nothing changed.

    References:
        | Improved confidence intervals for the difference between binomial proportions based on paired data
        | (Newcombe, 1998)
        | https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C

    Arguments:
        after: 0 or 1, with shape :math:`(N)`.
        before: The same of the images that they are compared with.
        groups: The prompt of each pair.
        confidence: How often it is to cover.

    Returns:
        Both ends, in :math:`[-1, 1]`; None if there is one prompt with several images.
    """
    found = _pair(after, before, groups, confidence)
    if found is None:
        return None
    (p, low_p, high_p), (q, low_q, high_q), phi = found
    down = (p - low_p) ** 2 - 2 * phi * (p - low_p) * (high_q - q) + (high_q - q) ** 2
    up = (high_p - p) ** 2 - 2 * phi * (high_p - p) * (q - low_q) + (q - low_q) ** 2
    return max(-1.0, p - q - sqrt(max(0.0, down))), min(1.0, p - q + sqrt(max(0.0, up)))


def ratio_interval(
    after: ArrayLike, before: ArrayLike, groups: Sequence[str], confidence: float = CONFIDENCE
) -> Interval | None:
    r"""Interval of the share that is gone, :math:`1 - R / R_0`, of two rates on the same prompts and seeds.

    From the same parts as :func:`rate_difference_interval`: those ratios for which the interval of
    :math:`R - r R_0` holds zero.

    References:
        | Closed-form confidence intervals for functions of the normal mean and standard deviation
        | (Donner & Zou, 2012)
        | https://doi.org/10.1177/0962280210383082

    Arguments:
        after: 0 or 1, with shape :math:`(N)`.
        before: The same of the original model.
        groups: The prompt of each pair.
        confidence: How often it is to cover.

    Returns:
        Both ends, at most 1; None if ``before`` is nowhere 1, or there is one prompt with several images.
    """
    found = _pair(after, before, groups, confidence)
    if found is None or found[1][0] == 0:
        return None
    (p, low_p, high_p), (q, low_q, high_q), phi = found
    a, c = high_q * (2 * q - high_q), low_p * (2 * p - low_p)
    b = p * q - phi * (p - low_p) * (high_q - q)
    # Of both roots the one that stays one where a is 0 or less.
    least = c / (b + sqrt(max(0.0, b**2 - a * c))) if c > 0 else 0.0
    a, c = low_q * (2 * q - low_q), high_p * (2 * p - high_p)
    b = p * q - phi * (high_p - p) * (q - low_q)
    most = (b + sqrt(max(0.0, b**2 - a * c))) / a
    return 1 - most, 1 - least


def _pair(
    after: ArrayLike, before: ArrayLike, groups: Sequence[str], confidence: float
) -> tuple[tuple[float, float, float], tuple[float, float, float], float] | None:
    """Both rates with their intervals, and their correlation."""
    x, y = np.asarray(after, dtype=np.float64), np.asarray(before, dtype=np.float64)
    parts = Clusters.of(x, groups), Clusters.of(y, groups)
    if parts[0].number < 2 and not parts[0].single:
        return None
    n = len(x)
    s = min(part.effective() for part in parts) / n
    (p, q) = (part.mean for part in parts)
    return (p, *_rate(parts[0], confidence)), (q, *_rate(parts[1], confidence)), _phi(x, y, n * s)


def _phi(x: np.ndarray, y: np.ndarray, n: float) -> float:
    """Correlation of outcomes, corrected for continuity as Newcombe does where it is positive."""
    p, q = float(x.mean()), float(y.mean())
    scale = p * (1 - p) * q * (1 - q)
    if scale == 0:
        return 0.0
    covariance = float((x * y).mean()) - p * q
    return (max(0.0, covariance - 1 / (2 * n)) if covariance > 0 else covariance) / sqrt(scale)
