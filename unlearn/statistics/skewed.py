"""Intervals around means of what prompts add, which may be skewed."""

from __future__ import annotations

from math import cbrt, sqrt

from unlearn.statistics.clusters import Numbers
from unlearn.statistics.interval import Interval, quantile


def around(value: float, error: float, parts: Numbers, confidence: float) -> Interval:
    r"""Student's t interval, and Hall's correction of it for skewness: of both the outer ends.

    The one misses where a few parts are large, and the other where parts are few.

    References:
        | On the Removal of Skewness by Transformation (Hall, 1992): his cubic transformation
        | https://doi.org/10.1111/j.2517-6161.1992.tb01876.x

    Arguments:
        value: The estimate.
        error: Its standard error.
        parts: How far each of at least two prompts moves it, of mean 0 and in any unit.
        confidence: How often the interval is to cover.
    """
    reach, slant = quantile(confidence, len(parts) - 1), _skewness(parts) / sqrt(len(parts))
    down, up = max(reach, _straightened(reach, slant)), max(reach, -_straightened(-reach, slant))
    return value - down * error, value + up * error


def _skewness(parts: Numbers) -> float:
    """Corrected for their number; 0 where it cannot be told."""
    k, spread = len(parts), float((parts**2).mean())
    if k < 3 or spread == 0:
        return 0.0
    skewness = float((parts**3).mean()) / sqrt(spread**3)
    return skewness * sqrt(k * (k - 1)) / (k - 2)


def _straightened(t: float, slant: float) -> float:
    r"""Where Student's t of a skewed mean is when Hall's :math:`t + a t^2 + a^2 t^3 / 3 + a / 2` is ``t``.

    Here :math:`a` is a third of the skewness over :math:`\sqrt k`.
    """
    a = slant / 3
    return t if abs(a) < 1e-9 else (cbrt(1 + 3 * a * (t - a / 2)) - 1) / a
