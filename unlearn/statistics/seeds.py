"""Several erasures with different seeds, on the same prompts: what each of both adds to the spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike

from unlearn.statistics.clusters import Clusters, Numbers
from unlearn.statistics.interval import CONFIDENCE, Interval, quantile
from unlearn.statistics.rates import wilson_interval


@dataclass(frozen=True)
class Split:
    """Standard deviations of what a value is made of.

    Attributes:
        seed: Of the erasures' own means.
        prompt: Of the prompts' own means.
        residue: Of what is left: how a prompt fares with one erasure rather than another, and noise.
    """

    seed: float
    prompt: float
    residue: float


@dataclass(frozen=True)
class OverSeeds:
    """A mean over several erasures.

    Attributes:
        value: The mean.
        interval: For other prompts and other seeds of the erasure.
        split: Where the spread comes from.
    """

    value: float
    interval: Interval
    split: Split


def over_seeds(
    values: Sequence[ArrayLike],
    groups: Sequence[Sequence[str]],
    rate: bool = False,
    confidence: float = CONFIDENCE,
) -> OverSeeds | None:
    r"""Mean over erasures that differ in their seed, as random as the prompts that they were tried on.

    By the analysis of variance of the prompts' means, with erasures and prompts crossed; the degrees of
    freedom are Satterthwaite's. With two or three erasures the interval is wide, as it has to be: resampling
    so few of them (seeds, then prompts) covers too little. For a rate it is Wilson's, with as many images as
    have that variance; where all images are alike it is that of the prompts alone
    (:func:`~unlearn.statistics.rates.rate_interval`), and says nothing of other seeds.

    References:
        | An Approximate Distribution of Estimates of Variance Components (Satterthwaite, 1946)
        | https://doi.org/10.2307/3002019

    Arguments:
        values: Of each erasure; for a rate 0 or 1.
        groups: The prompt of each value.
        rate: Whether they are outcomes.
        confidence: How often the interval is to cover.

    Returns:
        None for fewer than two erasures, or fewer than two prompts that all of them have.
    """
    tables = [_means(one, of) for one, of in zip(values, groups, strict=True)]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    if len(tables) < 2 or len(shared) < 2:
        return None
    cells = np.array([[table[prompt] for prompt in shared] for table in tables])
    value = float(cells.mean())
    variance, freedom, split = _variance(cells)
    if variance == 0:
        if not rate:
            return OverSeeds(value, (value, value), split)
        most = 1 - ((1 - confidence) / 2) ** (1 / len(shared))
        return OverSeeds(value, (0.0, most) if value == 0 else (1 - most, 1.0), split)
    reach = quantile(confidence, freedom)
    if rate:
        n = float(np.clip(value * (1 - value) / variance, 1, sum(len(of) for of in groups)))
        return OverSeeds(value, wilson_interval(value * n, n, reach), split)
    return OverSeeds(value, (value - reach * sqrt(variance), value + reach * sqrt(variance)), split)


def _means(values: ArrayLike, groups: Sequence[str]) -> dict[str, float]:
    """The mean of each prompt."""
    clusters = Clusters.of(values, groups)
    return dict(zip(sorted(set(groups)), (clusters.sums / clusters.counts).tolist(), strict=True))


def _variance(cells: Numbers) -> tuple[float, int, Split]:
    """Of the mean of a table of erasures by prompts, its degrees of freedom, and what it is made of."""
    a, b = cells.shape
    rows, columns, mean = cells.mean(axis=1), cells.mean(axis=0), cells.mean()
    rest = cells - rows[:, None] - columns[None, :] + mean
    of_rest = float((rest**2).sum()) / ((a - 1) * (b - 1))
    of_rows = max(of_rest, b * float(((rows - mean) ** 2).sum()) / (a - 1))
    of_columns = max(of_rest, a * float(((columns - mean) ** 2).sum()) / (b - 1))
    split = Split(sqrt((of_rows - of_rest) / b), sqrt((of_columns - of_rest) / a), sqrt(of_rest))
    total = of_rows + of_columns - of_rest
    if total <= 1e-24:
        return 0.0, 1, split
    parts = of_rows**2 / (a - 1) + of_columns**2 / (b - 1) + of_rest**2 / ((a - 1) * (b - 1))
    return total / (a * b), max(1, int(total**2 / parts)), split
