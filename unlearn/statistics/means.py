"""Means over prompts, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters
from unlearn.statistics.interval import CONFIDENCE, Interval
from unlearn.statistics.skewed import around


def mean_interval(
    values: ArrayLike,
    groups: Sequence[str],
    confidence: float = CONFIDENCE,
    bounds: Interval = (-inf, inf),
) -> Interval | None:
    """Interval of a mean over prompts, which may have several images each.

    Student's t over the prompts, and wider where they are skewed (:func:`~unlearn.statistics.skewed.around`).
    Values that are all equal tell nothing of how far others may be from them, so that none can be given.

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
    low, high = around(clusters.mean, standard_error(clusters), clusters.off, confidence)
    return max(bounds[0], low), min(bounds[1], high)


def standard_error(clusters: Clusters) -> float:
    r"""Of a mean over prompts.

    .. math:: \frac{1}{N} \sqrt{\frac{k}{k - 1} \sum_i (s_i - m_i \bar x)^2}

    with the sums :math:`s_i` and numbers :math:`m_i` of the values of :math:`k` prompts.

    References:
        | Sampling Techniques (Cochran, 1977), section 6.3: a ratio of the prompts' sums and numbers
    """
    k, off = clusters.number, clusters.off
    return float(np.sqrt(k / (k - 1) * (off**2).sum()) / clusters.n)
