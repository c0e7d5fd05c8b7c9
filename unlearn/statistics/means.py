"""Means and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from unlearn.statistics.interval import Interval

RESAMPLES = 10_000


def mean_interval(values: Tensor, groups: Sequence[str]) -> Interval | None:
    """Percentile bootstrap of a mean: groups are drawn with replacement, each with all its values.

    Arguments:
        values: With shape :math:`(N)`.
        groups: The prompt of each value.

    Returns:
        Both ends at 95 %; None if there are fewer than two groups.
    """
    sums, counts = _by_group(values, groups)
    if len(sums) < 2:
        return None
    random = np.random.default_rng(0)
    means = []
    for _ in range(0, RESAMPLES, 500):
        weights = random.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=500)
        means.append((weights @ sums) / (weights @ counts))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    # Equal values have rounding as their only spread; the mean must not fall out of its own interval.
    mean = values.double().mean().item()
    return min(float(low), mean), max(float(high), mean)


def _by_group(values: Tensor, groups: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group, in the groups' sorted order."""
    numbers = values.double().cpu().numpy()
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.bincount(inverse)
    # Sorted within a group, too: a sum must not depend on the order of the images.
    order = np.lexsort((numbers, inverse))
    return np.bincount(inverse[order], weights=numbers[order]), counts
