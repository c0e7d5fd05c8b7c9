r"""How far two sets of features are apart.

Features are :math:`(N, D)`; distances are computed in double precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

Kernel = Callable[[Tensor, Tensor], Tensor]
"""The kernel matrix of two sets, with shape :math:`(N, M)`."""


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


def pairs_against(kernel: Kernel, x: Tensor, reference: Tensor) -> Tensor:
    r"""What two images say of the squared MMD to a fixed set.

    Its mean over pairs of different images is the unbiased estimate,

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{N (N - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{M (M - 1)}
        - \frac{2}{N M} \sum_{i, j} k(x_i, y_j)

    References:
        | A Kernel Two-Sample Test (Gretton et al., 2012), equation 3
        | https://jmlr.org/papers/v13/gretton12a.html

    Arguments:
        kernel: Of two sets.
        x: Features of the images, with shape :math:`(N, D)`.
        reference: Those of the fixed set, with shape :math:`(M, D)`, :math:`M \ge 2`.

    Returns:
        With shape :math:`(N, N)`; the mean may be negative.
    """
    if len(reference) < 2:
        raise ValueError(f"reference: an unbiased estimate needs at least two, got {len(reference)}")
    inside = kernel(reference, reference)
    own = (inside.sum() - inside.diagonal().sum()) / (len(reference) * (len(reference) - 1))
    cross = kernel(x, reference).mean(dim=1)
    return kernel(x, x) - cross[:, None] - cross[None, :] + own


def pairs_of_pairs(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """What two prompts say of the squared MMD of two models' images of the same prompts.

    No image is compared with its own pair, on which it depends: equal sets are at distance 0.

    References:
        | A Kernel Two-Sample Test (Gretton et al., 2012), equation 4
        | https://jmlr.org/papers/v13/gretton12a.html

    Arguments:
        kernel: Of two sets.
        x: Features of one model's images, with shape :math:`(N, D)`.
        y: Those of the other's, of the same prompts and seeds.

    Returns:
        With shape :math:`(N, N)`.
    """
    cross = kernel(x, y)
    return kernel(x, x) + kernel(y, y) - cross - cross.T
