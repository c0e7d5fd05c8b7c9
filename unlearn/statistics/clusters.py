"""Values of prompts with several seeds: those of a prompt are alike, and count for less than their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Clusters:
    """Values by their prompt.

    Attributes:
        sums: Sum of each prompt's values, in the prompts' sorted order.
        squares: Sum of each prompt's squared values.
        counts: How many values each prompt has.
    """

    sums: Numbers
    squares: Numbers
    counts: Numbers

    @classmethod
    def of(cls, values: ArrayLike, groups: Sequence[str]) -> Clusters:
        """The values of each group.

        Arguments:
            values: Finite, with shape :math:`(N)`.
            groups: The prompt of each, in any order.
        """
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.shape != (len(groups),):
            raise ValueError(f"values: there are {numbers.shape} of them, and {len(groups)} groups")
        _, inverse = np.unique(np.asarray(groups), return_inverse=True)
        # Sorted within a group, too: a sum must not depend on the order of the images.
        order = np.lexsort((numbers, inverse))
        inverse, numbers = inverse[order], numbers[order]
        return cls(
            np.bincount(inverse, weights=numbers).astype(np.float64),
            np.bincount(inverse, weights=numbers**2).astype(np.float64),
            np.bincount(inverse).astype(np.float64),
        )

    @property
    def number(self) -> int:
        """How many prompts."""
        return len(self.counts)

    @property
    def n(self) -> int:
        """How many values."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        """Mean over all values."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def off(self) -> Numbers:
        """How far each prompt's sum is from what the mean gives as many values."""
        return self.sums - self.counts * self.mean

    @property
    def single(self) -> bool:
        """Whether each prompt has one value."""
        return self.number == self.n

    @property
    def freedom(self) -> int | None:
        """Degrees of freedom of an interval over the prompts; None where each has one value."""
        return None if self.single else self.number - 1

    def correlation(self) -> float:
        r"""How alike the values of a prompt are: their intra-cluster correlation, in :math:`[0, 1]`.

        By the analysis of variance, for prompts with any numbers of seeds, and one standard error up: few
        prompts show too little of it, most of all where few of them stand out. It is 1 where all values are
        equal, which is as far from certain as it may be.

        References:
            | Statistical Methods for Rates and Proportions (Fleiss, Levin & Paik, 2003), section 15.2
            | Statistical Methods for Research Workers (Fisher, 1925), of its standard error
        """
        n, counts, number = self.n, self.counts, self.number
        inside = max(0.0, (self.squares - self.sums**2 / counts).sum() / (n - number))
        between = (counts * (self.sums / counts - self.mean) ** 2).sum() / (number - 1)
        size = (n - (counts**2).sum() / n) / (number - 1)
        total = between + (size - 1) * inside
        if total <= 1e-12 * self.squares.sum():
            return 1.0
        found = float(np.clip((between - inside) / total, 0, 1))
        error: float = (1 - found) * (1 + (size - 1) * found) * (2 / (size * (size - 1) * number)) ** 0.5
        return min(1.0, found + error)

    def effective(self) -> float:
        """How many independent values would tell as much about the mean: their number over the design effect.

        From the number of prompts (each alike in itself) to that of values.
        """
        if self.single:
            return float(self.n)
        size = (self.counts**2).sum() / self.n
        return float(self.n / (1 + (size - 1) * self.correlation()))
