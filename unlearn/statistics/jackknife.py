"""Estimates from all images but those of one prompt, in turn: what they say of bias and of variance.

References:
    | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), chapters 2 and 3
    | https://doi.org/10.1137/1.9781611970319
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from unlearn.statistics.clusters import Numbers
from unlearn.statistics.interval import CONFIDENCE, Interval
from unlearn.statistics.skewed import around

BLOCKS = 20
"""Parts that are left out of a statistic that takes long."""


def mean_over_pairs(
    pairs: Tensor, groups: Sequence[str], confidence: float = CONFIDENCE
) -> tuple[float, Interval | None]:
    """Mean of a symmetric function of two images over all pairs of different prompts: a U-statistic.

    Images of one prompt are alike, so that pairs of them would bias it, as would an image with itself.

    Arguments:
        pairs: Its value for each two images, with shape :math:`(N, N)`.
        groups: The prompt of each image.
        confidence: How often the interval is to cover.

    Returns:
        The mean, NaN for one prompt; and its interval by the jackknife over prompts, None for fewer than
        three of them or where all pairs are equal.
    """
    _, inverse = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(inverse).astype(np.float64)
    index = torch.from_numpy(inverse)
    blocks = torch.zeros(len(sizes), len(inverse), dtype=torch.double).index_add_(
        0, index, pairs.double().cpu()
    )
    blocks = torch.zeros(len(sizes), len(sizes), dtype=torch.double).index_add_(1, index, blocks)
    own, rows = blocks.diagonal().numpy(), blocks.sum(dim=1).numpy()
    total, count = rows.sum() - own.sum(), sizes.sum() ** 2 - (sizes**2).sum()
    if len(sizes) < 2:
        return float("nan"), None
    value = float(total / count)
    if len(sizes) < 3:
        return value, None
    left = total - 2 * (rows - own)
    counts = (sizes.sum() - sizes) ** 2 - ((sizes**2).sum() - sizes**2)
    return value, _around(value, left / counts, confidence)


def extrapolated(
    statistic: Callable[[Tensor], float], groups: Sequence[str], confidence: float = CONFIDENCE
) -> tuple[float, Interval | None]:
    r"""What a statistic would be for infinitely many images, if its bias goes with :math:`1 / N`.

    From its value on all images and on those without each of some equal parts of the prompts.

    Arguments:
        statistic: Its value on the images with these positions.
        groups: The prompt of each image.
        confidence: How often the interval is to cover.

    Returns:
        The value and its interval; no interval for fewer than three prompts.
    """
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    blocks = min(BLOCKS, len(names))
    # Prompts stand in an order that says something of them; the parts are to be alike.
    block = (np.random.default_rng(0).permutation(len(names)) % blocks)[inverse]
    value = statistic(torch.arange(len(inverse)))
    left = np.array([statistic(torch.from_numpy(np.flatnonzero(block != b))) for b in range(blocks)])
    free = float(blocks * value - (blocks - 1) * left.mean())
    return free, _around(free, left, confidence) if blocks > 2 else None


def _around(value: float, left: Numbers, confidence: float) -> Interval | None:
    """The interval around a value, from what it is without each part; None if it is always the same."""
    deviation = float(np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()))
    if deviation == 0:
        return None
    return around(value, deviation, left.mean() - left, confidence)
