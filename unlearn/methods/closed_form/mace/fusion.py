r"""The two closed forms of MACE, with a Gram matrix that all layers and concepts share.

Rows are token embeddings, :math:`P` is the Gram matrix of what is to be kept, :math:`p` its weight and
:math:`\lambda` the pull towards the weights as they are. Refinement maps what a sentence says besides a
concept to what it says about the concept's anchor, with rows :math:`E` and :math:`E^*`:

.. math::
    M = I + (E^* - E)^\top E \, G^{-1}, \qquad G = E^\top E + p P + \lambda I .

Fusion looks for weights that act on each concept's rows :math:`E_i` as :math:`W M + B_i A_i` does, with its
own low-rank addition, and on what is kept as :math:`W`:

.. math::
    W M + \Big[ \sum_i B_i (A_i E_i^\top E_i) + p \, W (I - M) P \Big] G^{-1}, \qquad
    G = \sum_i E_i^\top E_i + p P + \lambda I .

Sums over rows are taken concept by concept, and no value of any layer is ever written down, so that memory
grows with the concepts by a few rows of width :math:`d` each. All is float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.methods.closed_form.solver import factorised, gram


@dataclass(frozen=True)
class Kept:
    r"""What both closed forms are to keep.

    Attributes:
        prior: :math:`P`, with shape :math:`(d, d)`.
        scale: :math:`p`.
        ridge: :math:`\lambda`.
        relative_ridge: More of it, in units of the mean eigenvalue of the rest of :math:`G`.
    """

    prior: Tensor
    scale: float
    ridge: float
    relative_ridge: float = 0.0

    def factorised(self, rows: Tensor) -> tuple[Tensor, float]:
        """Cholesky factor and condition number of :math:`G`, from the Gram matrix of the rows.

        Raises:
            ConfigError: If the system is too ill-conditioned to be solved.
        """
        system = rows + self.scale * self.prior
        return factorised(system, self.ridge + self.relative_ridge * float(system.trace()) / len(system))

    def drift(self, change: Tensor) -> float:
        r"""How far what is kept moves under :math:`I + \Delta`, relative to its length."""
        whole = float(self.prior.trace())
        moved = float(((change @ self.prior) * change).sum())
        return (max(moved, 0.0) / whole) ** 0.5 if whole else 0.0


def refinement(pairs: Iterable[tuple[Tensor, Tensor]], kept: Kept) -> tuple[Tensor, dict[str, float]]:
    r"""Solves for the map of all pairs of rows together.

    Arguments:
        pairs: Rows :math:`E` and :math:`E^*`, each with shape :math:`(n, d)`; a few thousand at a time.

    Returns:
        :math:`M`, with shape :math:`(d, d)`, and what it does: ``condition`` of :math:`G`, ``change``
        :math:`\| M - I \|`, ``residual`` of the rows (1 where nothing has changed) and ``drift`` of what is
        kept.

    Raises:
        ConfigError: If the system is too ill-conditioned to be solved.
    """
    overlap, shift = torch.zeros_like(kept.prior), torch.zeros_like(kept.prior)
    distance = 0.0
    for rows, targets in pairs:
        wide = rows.double()
        step = targets.double() - wide
        overlap += gram(wide)
        shift.addmm_(step.T, wide)
        distance += float(step.square().sum())
    factor, condition = kept.factorised(overlap)
    change = torch.cholesky_solve(shift.T, factor).T
    left = float(((change @ overlap) * change).sum() - 2 * (change * shift).sum()) + distance
    measured = {
        "condition": condition,
        "change": float(change.norm()),
        "residual": (max(left, 0.0) / distance) ** 0.5 if distance else 0.0,
        "drift": kept.drift(change),
    }
    return change + torch.eye(len(change), dtype=change.dtype, device=change.device), measured


@dataclass(frozen=True)
class Adapter:
    """The low-rank additions of one concept.

    Attributes:
        down: :math:`A` of every layer, each with shape :math:`(r, d)`.
        up: :math:`B` of every layer, each with shape :math:`(o, r)`.
    """

    down: Sequence[Tensor]
    up: Sequence[Tensor]


def fused(
    weights: Sequence[Tensor],
    matrix: Tensor,
    adapters: Sequence[Adapter],
    rows: Iterable[Tensor],
    kept: Kept,
) -> tuple[list[Tensor], dict[str, float]]:
    r"""Melts the additions of all concepts into the weights.

    Arguments:
        weights: :math:`W` of every layer before refinement, each with shape :math:`(o, d)`.
        matrix: :math:`M`, with shape :math:`(d, d)`.
        adapters: Of each concept.
        rows: :math:`E_i` of each concept, with shape :math:`(n, d)`, in the same order.

    Returns:
        The new weights, each in its own dtype, and the ``condition`` of :math:`G`.

    Raises:
        ConfigError: If the system is too ill-conditioned to be solved.
    """
    overlap = torch.zeros_like(kept.prior)
    products = []
    for adapter, own in zip(adapters, rows, strict=True):
        wide = own.double()
        overlap += gram(wide)
        down = torch.cat([factor.double() for factor in adapter.down])
        products.append((down @ wide.T) @ wide)
    factor, condition = kept.factorised(overlap)
    change = matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    change = change - kept.scale * torch.cholesky_solve((change @ kept.prior).T, factor).T
    readouts = torch.cholesky_solve(torch.cat(products).T, factor).T
    readouts = readouts.reshape(len(adapters), len(weights), -1, len(matrix))
    new = []
    for layer, weight in enumerate(weights):
        up = torch.cat([adapter.up[layer].double() for adapter in adapters], dim=1)
        wide = weight.double()
        new.append((wide + wide @ change + up @ readouts[:, layer].flatten(0, 1)).to(weight.dtype))
    return new, {"fusion_condition": condition}
