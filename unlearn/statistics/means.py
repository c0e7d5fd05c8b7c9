"""Means over prompts, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters
from unlearn.statistics.interval import CONFIDENCE, Interval, quantile


def mean_interval(
    values: ArrayLike, groups: Sequence[str], confidence: float = CONFIDENCE
) -> Interval | None:
    """Interval of a mean over prompts, which may have several images each: Student's t over the prompts.

    Values that are all equal tell nothing of how far others may be from them, so that none can be given.

    Arguments:
        values: With shape :math:`(N)`; for a paired comparison, the differences.
        groups: The prompt of each value.
        confidence: How often it is to cover.

    Returns:
        Both ends; None if there are fewer than two prompts, or all values are equal.
    """
    clusters = Clusters.of(values, groups)
    if clusters.number < 2:
        return None
    if np.ptp(np.asarray(values, dtype=np.float64)) == 0:
        return None
    reach = quantile(confidence, clusters.number - 1) * standard_error(clusters)
    return clusters.mean - reach, clusters.mean + reach


def standard_error(clusters: Clusters) -> float:
    r"""Of a mean over prompts.

    .. math:: \frac{1}{N} \sqrt{\frac{k}{k - 1} \sum_i (s_i - m_i \bar x)^2}

    with the sums :math:`s_i` and numbers :math:`m_i` of the values of :math:`k` prompts.

    References:
        | Sampling Techniques (Cochran, 1977), section 6.3: a ratio of the prompts' sums and numbers
    """
    off = clusters.sums - clusters.counts * clusters.mean
    k = clusters.number
    return float(np.sqrt(k / (k - 1) * (off**2).sum()) / clusters.n)
