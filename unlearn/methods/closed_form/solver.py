r"""The linear algebra behind closed-form edits of cross-attention.

Text embeddings are rows: :math:`E` of what is erased and :math:`E^*` of what takes its place, both with shape
:math:`(n, d)`, and :math:`R` of what is retained, with shape :math:`(m, d)`. Every key or value projection
:math:`W_l`, with shape :math:`(o_l, d)`, is to minimise

.. math:: s \, \| E W^\top - E^* W_l^\top \|^2 + p \, \| (W - W_l) R^\top \|^2 + \lambda \, \| W - W_l \|^2 .

All targets are images of text embeddings, so that one matrix solves it for all layers:

.. math::
    W = W_l M, \qquad M = I + (E^* - E)^\top X, \qquad X = s E G^{-1}, \qquad
    G = \lambda I + s E^\top E + p R^\top R .

This form of :math:`M` is exact where nothing changes, and its error is relative to the change. A row that
counts :math:`w` times as much is one that is longer by :math:`\sqrt w`, in :math:`E` and :math:`E^*` alike.
Token embeddings of CLIP are long and nearly parallel, which leaves float32 few digits or none: sums and
solves are float64 here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import LongTensor, Tensor

from unlearn.errors import ConfigError
from unlearn.models.model import DiffusionModel

#: Condition number from which on less than four digits of a float64 solution can be trusted.
LARGEST_CONDITION = 1e12

#: Texts that are encoded, and rows that are converted to float64, at a time.
TEXTS, ROWS = 32, 1280

#: Parts, a power of 2, that the columns of a Gram matrix are divided into.
PARTS = 16


@dataclass(frozen=True)
class TextRows:
    """Token embeddings of texts, each text encoded once.

    Attributes:
        tokens: Embeddings of a text's tokens by text, each with shape :math:`(L, d)`.
        last: Position of a text's last content token; 0, the start token, if it has none.
    """

    tokens: Mapping[str, Tensor]
    last: Mapping[str, int]

    @classmethod
    @torch.no_grad()
    def encode(cls, model: DiffusionModel, texts: Sequence[str]) -> TextRows:
        """Encodes ``texts``.

        Raises:
            ConfigError: If a text has more tokens than the encoder takes.
        """
        distinct = list(dict.fromkeys(texts))
        ends = _first(model.tokenize(distinct), model.tokenizer.eos_token_id)
        parts = [model.encode(distinct[i : i + TEXTS]).tokens for i in range(0, len(distinct), TEXTS)]
        return cls(
            tokens=dict(zip(distinct, torch.cat(parts), strict=True)),
            last={text: end - 1 for text, end in zip(distinct, ends, strict=True)},
        )


def _first(ids: LongTensor, token: int) -> list[int]:
    """Position of the first ``token`` in each row."""
    return [int(position) for position in (ids == token).int().argmax(dim=1)]


@dataclass(frozen=True)
class Solution:
    """The solved system of one edit.

    Attributes:
        readout: :math:`X`, with shape :math:`(n, d)`, float64. It tells how much of each erased row is in an
            embedding.
        condition: Condition number, in the 2-norm, of the system that was solved.
    """

    readout: Tensor
    condition: float

    def map(self, erased: Tensor, targets: Tensor) -> Tensor:
        """:math:`M`, with shape :math:`(d, d)`, float64, that sends ``erased`` rows to ``targets``."""
        change = (targets.double() - erased.double()).T @ self.readout
        return change + torch.eye(len(change), dtype=change.dtype, device=change.device)


def solve(
    erased: Tensor,
    retained: Tensor,
    *,
    erase_scale: float,
    preserve_scale: float,
    ridge: float,
    relative_ridge: float = 0.0,
    prior: Tensor | None = None,
) -> Solution:
    r"""Solves for :math:`X = s E G^{-1}`.

    With fewer rows than dimensions, :math:`U G^{-1} = (\lambda I + U U^\top)^{-1} U` with
    :math:`U = [\sqrt s E; \sqrt p R]` leaves a system of the size of the rows (Woodbury).

    Arguments:
        erased: :math:`E`, with shape :math:`(n, d)`.
        retained: :math:`R`, with shape :math:`(m, d)`; :math:`m` may be 0.
        erase_scale: :math:`s`.
        preserve_scale: :math:`p`.
        ridge: :math:`\lambda`, the pull towards the weights as they are.
        relative_ridge: More of it, in units of the mean eigenvalue of :math:`s E^\top E + p R^\top R`.
        prior: The Gram matrix of further retained rows, with shape :math:`(d, d)`, which counts as if they
            were in :math:`R`.

    Raises:
        ConfigError: If the system is singular or so ill-conditioned that its solution would be noise.
    """
    erased = erased.double()
    if ridge + relative_ridge > 0 and prior is None and len(erased) + len(retained) < erased.shape[1]:
        rows = torch.cat([erase_scale**0.5 * erased, preserve_scale**0.5 * retained.double()])
        system = rows @ rows.T
        factor, condition = factorised(
            system, ridge + relative_ridge * float(system.trace()) / erased.shape[1]
        )
        readout = erase_scale**0.5 * torch.cholesky_solve(rows, factor)[: len(erased)]
    else:
        kept = gram(retained) if prior is None else gram(retained) + prior.double()
        system = erase_scale * gram(erased) + preserve_scale * kept
        factor, condition = factorised(system, ridge + relative_ridge * float(system.trace()) / len(system))
        readout = erase_scale * torch.cholesky_solve(erased.T, factor).T
    return Solution(readout, condition)


def gram(*matrices: Tensor) -> Tensor:
    r"""Sum of :math:`A^\top A` over matrices of shape :math:`(n, d)`: shape :math:`(d, d)`, float64.

    What is below the diagonal is not computed but copied. The rest is the block right of the first half of
    the diagonal, those right of the first half of each of its halves, and so on down to :data:`PARTS` blocks
    on the diagonal: one batched product for each size of block.
    """
    width = matrices[0].shape[1]
    narrow = -(-width // PARTS)
    zeros = partial(torch.zeros, dtype=torch.float64, device=matrices[0].device)
    counts = [2**i for i in range(PARTS.bit_length() - 1)]
    beside = [zeros(n, narrow * PARTS // n // 2, narrow * PARTS // n // 2) for n in counts]
    diagonal = zeros(PARTS, narrow, narrow)
    waiting = zeros(min(ROWS, sum(map(len, matrices))), narrow * PARTS)

    def add(rows: Tensor) -> None:
        for blocks in beside:
            halves = rows.view(len(rows), len(blocks), 2, blocks.shape[1])
            blocks.baddbmm_(halves[:, :, 0].permute(1, 2, 0), halves[:, :, 1].permute(1, 0, 2))
        parts = rows.view(len(rows), PARTS, narrow)
        diagonal.baddbmm_(parts.permute(1, 2, 0), parts.permute(1, 0, 2))

    # Few long products are faster than one for each matrix.
    count = 0
    for piece in (piece for matrix in matrices for piece in torch.split(matrix, ROWS)):
        if count + len(piece) > len(waiting):
            add(waiting[:count])
            count = 0
        waiting[count : count + len(piece), :width] = piece
        count += len(piece)
    add(waiting[:count])

    total = zeros(narrow * PARTS, narrow * PARTS)
    for blocks in beside:
        size = blocks.shape[1]
        for i, block in enumerate(blocks):
            start, end = 2 * i * size, 2 * (i + 1) * size
            total[start : end - size, start + size : end] = block
            total[start + size : end, start : end - size] = block.T
    for i, block in enumerate(diagonal):
        total[i * narrow : (i + 1) * narrow, i * narrow : (i + 1) * narrow] = block
    return total[:width, :width].contiguous()


def condensed(matrices: Sequence[Tensor]) -> Tensor:
    r"""Rows that count as all rows of ``matrices`` do wherever only their Gram matrix counts.

    Returns:
        The rows themselves, or :math:`d` others with the same Gram matrix if there are more than that;
        float64.
    """
    if sum(map(len, matrices)) <= matrices[0].shape[1]:
        return torch.cat([matrix.double() for matrix in matrices])
    values, vectors = torch.linalg.eigh(gram(*matrices))
    rows: Tensor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    return rows


@torch.no_grad()
def mean_gram(model: DiffusionModel, texts: Sequence[str]) -> Tensor:
    """Gram matrix of a text's token embeddings, in the mean over ``texts``.

    Returns:
        A matrix with shape :math:`(d, d)`, float64.

    Raises:
        ConfigError: If a text has more tokens than the encoder takes; none is encoded then.
    """
    model.tokenize(texts)
    total = torch.zeros((), dtype=torch.float64, device=model.device)
    for start in range(0, len(texts), TEXTS):
        total = total + gram(model.encode(texts[start : start + TEXTS]).tokens.flatten(0, 1))
    return total / len(texts)


def relative_distance(a: Tensor, b: Tensor, unit: Tensor) -> float:
    r""":math:`\| A - B \| / \| C \|` in the Frobenius norm; 0 if ``unit`` is empty."""
    return float((a - b).norm() / unit.norm()) if unit.numel() else 0.0


def factorised(system: Tensor, ridge: float) -> tuple[Tensor, float]:
    r"""Cholesky factor and condition number of :math:`A + \lambda I`, with :math:`A` positive semi-definite.

    Arguments:
        system: :math:`A`, to which the ridge is added in place.
        ridge: :math:`\lambda`.

    Raises:
        ConfigError: If the system is singular or so ill-conditioned that its solution would be noise.
    """
    system.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(system)
    values = torch.linalg.eigvalsh(system)
    smallest = float(values[0])
    condition = float("inf") if int(failed) or smallest <= 0 else float(values[-1]) / smallest
    if condition > LARGEST_CONDITION:
        raise ConfigError(
            "method: the system that the edit solves is ill-conditioned: its condition number is "
            f"{condition:.1e} with a ridge of {ridge:.1e}, and {LARGEST_CONDITION:.0e} is the limit. "
            "Raise the ridge."
        )
    return factor, condition
