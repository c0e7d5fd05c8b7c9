r"""How far two sets of features are apart.

Features are :math:`(N, D)`; distances are computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

HALF_SAMPLES = 50


def half_sample_deviation(statistic: Callable[[Tensor], float], groups: Sequence[str]) -> float | None:
    r"""Standard deviation of a statistic that resampling with replacement would bias.

    A Fréchet distance, for one. It is taken on random halves of the groups, drawn without replacement. For
    smooth statistics, whose variance goes with :math:`1 / N`, the spread over halves is that of the statistic
    on all :math:`N`: a half has twice the variance, and drawing without replacement halves it again.

    References:
        | Subsampling (Politis, Romano & Wolf, 1999), section 2.2

    Arguments:
        statistic: Its value on the images with these positions.
        groups: The prompt of each image.

    Returns:
        The standard deviation; None if there are fewer than four groups.
    """
    names, inverse = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 4:
        return None
    random = np.random.default_rng(0)
    values = []
    for _ in range(HALF_SAMPLES):
        half = random.permutation(len(names))[: len(names) // 2]
        values.append(statistic(torch.from_numpy(np.flatnonzero(np.isin(inverse, half)))))
    return float(np.std(values, ddof=1))


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Fréchet distance between Gaussians fitted to two sets of features.

    .. math:: \|\mu_x - \mu_y\|^2 + \operatorname{tr}(\Sigma_x + \Sigma_y - 2 (\Sigma_x \Sigma_y)^{1/2})

    The expectation falls with the number of features even if both come from one distribution: only distances
    at equal numbers can be compared.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
        | (Heusel et al., 2017)
        | https://arxiv.org/abs/1706.08500

    Arguments:
        x: Features with shape :math:`(N, D)`, :math:`N \ge 2`.
        y: Features with shape :math:`(M, D)`, :math:`M \ge 2`.

    Returns:
        The squared distance; 0 where it is below what rounding can tell from 0.

    Raises:
        ValueError: If either set has fewer than two features.
    """
    return frechet_to(y)(x)


def frechet_to(y: Tensor) -> Callable[[Tensor], float]:
    """:func:`frechet_distance` to a fixed set, whose statistics are computed once."""
    mean_y, cov_y, _ = _moments(y)
    # The eigenvalues of S_x S_y are those of the symmetric S_y^(1/2) S_x S_y^(1/2).
    eigenvalues, vectors = torch.linalg.eigh(cov_y)
    root_y = (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T

    def distance(x: Tensor) -> float:
        mean_x, cov_x, centred = _moments(x)
        # With fewer images than dimensions most eigenvalues are 0 and, by rounding, not quite; the Gram
        # matrix of the images has just the others.
        product = centred @ cov_y @ centred.T if len(centred) < len(cov_y) else root_y @ cov_x @ root_y
        roots = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0).sqrt().sum()
        spread = cov_x.trace() + cov_y.trace()
        found = (mean_x - mean_y).square().sum() + spread - 2 * roots
        # A root of an eigenvalue that is 0 but for rounding is off by the root of the machine's precision.
        return 0.0 if found.abs() <= 1e-7 * spread else found.item()

    return distance


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mean, covariance, and :math:`(x - \mu) / \sqrt{N - 1}`, whose Gram matrix is the covariance."""
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"features: a Fréchet distance needs at least two, got shape {tuple(x.shape)}")
    x = x.double()
    mean = x.mean(dim=0)
    centred = (x - mean) / (len(x) - 1) ** 0.5
    return mean, centred.T @ centred, centred


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    r"""KID's kernel :math:`k(x, y) = (x^\top y / D + 1)^3`, with shape :math:`(N, M)`."""
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: Tensor, y: Tensor) -> Tensor:
    r"""CMMD's kernel of unit vectors, :math:`\exp(-\|x - y\|^2 / 2 \sigma^2)` with :math:`\sigma = 10`."""
    cosine = normalize(x.double(), dim=-1) @ normalize(y.double(), dim=-1).T
    # For unit vectors the squared distance is 2 - 2 cos.
    return torch.exp((cosine.clamp(-1, 1) - 1) / 10**2)


def within(kernel: Tensor, unbiased: bool) -> float:
    """Mean of a kernel matrix of one set with itself or with its pairs; without its diagonal if unbiased."""
    n = len(kernel)
    if not unbiased:
        return kernel.mean().item()
    if n < 2:
        raise ValueError(f"features: an unbiased estimate needs at least two, got {n}")
    return ((kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))).item()


def kernel_distance(x: Tensor, y: Tensor) -> float:
    r"""Kernel inception distance: the unbiased squared MMD with :func:`polynomial_kernel`.

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{N (N - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{M (M - 1)}
        - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)

    Taken over all pairs. The usual mean over random subsets estimates the same number with more noise, and
    makes it depend on the order of the images.

    References:
        | Demystifying MMD GANs (Bińkowski et al., 2018)
        | https://arxiv.org/abs/1801.01401

    Returns:
        The squared distance, which may be negative.
    """
    cross = polynomial_kernel(x, y).mean().item()
    return within(polynomial_kernel(x, x), True) + within(polynomial_kernel(y, y), True) - 2 * cross


def cmmd_distance(x: Tensor, y: Tensor) -> float:
    r"""CMMD: 1000 times the squared MMD with :func:`gaussian_kernel` on normalised CLIP features.

    As in the authors' code the diagonals are kept.

    References:
        | Rethinking FID: Towards a Better Evaluation Metric for Image Generation (Jayasumana et al., 2024)
        | https://arxiv.org/abs/2401.09603
    """
    cross = gaussian_kernel(x, y).mean().item()
    return 1000 * (within(gaussian_kernel(x, x), False) + within(gaussian_kernel(y, y), False) - 2 * cross)
