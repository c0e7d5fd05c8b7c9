"""Means over prompts, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import cbrt, inf, sqrt

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters
from unlearn.statistics.interval import CONFIDENCE, Interval, quantile


def mean_interval(
    values: ArrayLike,
    groups: Sequence[str],
    confidence: float = CONFIDENCE,
    bounds: Interval = (-inf, inf),
) -> Interval | None:
    r"""Interval of a mean over prompts, which may have several images each.

    Student's t over the prompts, and Hall's correction of it for skewed values: of both the outer ends, since
    the one misses where a few values are large, and the other where prompts are few. Values that are all
    equal tell nothing of how far others may be from them, so that none can be given.

    References:
        | On the Removal of Skewness by Transformation (Hall, 1992): his cubic transformation
        | https://doi.org/10.1111/j.2517-6161.1992.tb01876.x

    Arguments:
        values: With shape :math:`(N)`; for a paired comparison, the differences.
        groups: The prompt of each value.
        confidence: How often it is to cover.
        bounds: Between which values a mean can be at all.

    Returns:
        Both ends; None if there are fewer than two prompts, or all values are equal.
    """
    clusters = Clusters.of(values, groups)
    if clusters.number < 2 or np.ptp(np.asarray(values, dtype=np.float64)) == 0:
        return None
    reach, error = quantile(confidence, clusters.number - 1), standard_error(clusters)
    slant = _skewness(clusters) / sqrt(clusters.number)
    down, up = max(reach, _straightened(reach, slant)), max(reach, -_straightened(-reach, slant))
    return max(bounds[0], clusters.mean - down * error), min(bounds[1], clusters.mean + up * error)


def standard_error(clusters: Clusters) -> float:
    r"""Of a mean over prompts.

    .. math:: \frac{1}{N} \sqrt{\frac{k}{k - 1} \sum_i (s_i - m_i \bar x)^2}

    with the sums :math:`s_i` and numbers :math:`m_i` of the values of :math:`k` prompts.

    References:
        | Sampling Techniques (Cochran, 1977), section 6.3: a ratio of the prompts' sums and numbers
    """
    k, off = clusters.number, clusters.off
    return float(np.sqrt(k / (k - 1) * (off**2).sum()) / clusters.n)


def _skewness(clusters: Clusters) -> float:
    """Of what prompts add to a mean, corrected for their number; 0 where it cannot be told."""
    k, off = clusters.number, clusters.off
    spread = float((off**2).mean())
    if k < 3 or spread == 0:
        return 0.0
    skewness = float((off**3).mean()) / sqrt(spread**3)
    return skewness * sqrt(k * (k - 1)) / (k - 2)


def _straightened(t: float, slant: float) -> float:
    r"""Where Student's t of a skewed mean is when Hall's :math:`t + a t^2 + a^2 t^3 / 3 + a / 2` is ``t``.

    Here :math:`a` is a third of the skewness over :math:`\sqrt k`.
    """
    a = slant / 3
    return t if abs(a) < 1e-9 else (cbrt(1 + 3 * a * (t - a / 2)) - 1) / a
