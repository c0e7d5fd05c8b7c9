"""What an interval is, and how many standard errors it reaches."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import atan, cos, pi, sin, sqrt
from statistics import NormalDist

Interval = tuple[float, float]
"""Both ends."""

CONFIDENCE = 0.95
"""How often an interval covers what it is for, unless it is asked for another."""


@lru_cache(maxsize=1024)
def quantile(confidence: float, freedom: int | None = None) -> float:
    """How many standard errors reach from the middle of an interval to its ends.

    Arguments:
        confidence: How often it is to cover, in :math:`(0, 1)`.
        freedom: Degrees of freedom of Student's t; None for the normal distribution.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: must lie between 0 and 1, got {confidence}")
    normal = NormalDist().inv_cdf((1 + confidence) / 2)
    if freedom is None:
        return normal
    return bisect(lambda t: t_central(t, freedom) - confidence, 0.0, normal * 2 ** (64 / max(1, freedom)))


def t_central(t: float, freedom: int) -> float:
    r"""How likely Student's t lies in :math:`[-t, t]`, by its sums for whole degrees of freedom.

    References:
        | Handbook of Mathematical Functions (Abramowitz & Stegun, 1964), 26.7.3 and 26.7.4

    Arguments:
        t: Not negative.
        freedom: Degrees of freedom, at least 1.
    """
    if freedom < 1:
        raise ValueError(f"freedom: must be at least 1, got {freedom}")
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cos(angle) ** 2 * (k - 1) / k
        total += term
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total


def t_tail(t: float, freedom: int) -> float:
    """How likely Student's t is above ``t``."""
    tail = (1 - t_central(abs(t), freedom)) / 2
    return tail if t >= 0 else 1 - tail


def bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is zero, between ``low`` and ``high``; the end that is nearest if nowhere."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
