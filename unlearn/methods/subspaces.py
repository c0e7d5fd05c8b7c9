r"""Subspaces of text embeddings, and the pooled embeddings that span them.

A text's *pooled* embedding is the state of its first end token after the text tower's final layer norm. The
tower is causal: nothing that follows the end token changes it, so that texts of any lengths can be encoded
together.

Embeddings are rows. A subspace is held by an orthonormal basis :math:`U`, with shape :math:`(d, r)`, and
projected on by :math:`e \to e U U^\top`; the projector itself, of shape :math:`(d, d)`, is never formed. The
basis comes from singular vectors. Its usual other form, :math:`A (A^\top A)^{-1} A^\top`, squares the
condition number, which costs all digits of float32 where embeddings are as nearly parallel as those of one
prompt's variations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unlearn.models.model import DiffusionModel

#: Tokens that are encoded at a time, as many as 64 full prompts have.
TOKENS = 64 * 77
#: Singular values below this share of the largest one span nothing: float32 leaves them no digit.
SMALLEST = 1e-4


def contents(model: DiffusionModel, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without the start token, the end token and the padding.

    Raises:
        ConfigError: If a text has more tokens than the encoder takes.
    """
    end = model.tokenizer.eos_token_id
    return [row[1 : row.index(end)] for row in model.tokenize(texts).tolist()]


@torch.no_grad()
def pooled(model: DiffusionModel, texts: Sequence[Sequence[int]]) -> Tensor:
    """Pooled embeddings of texts of any lengths, in few runs of the text tower, without their padding.

    Arguments:
        texts: Token ids as :func:`contents` gives them.

    Returns:
        Embeddings with shape :math:`(N, d)`, float64, on the CPU.
    """
    start, end = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
    found: dict[int, Tensor] = {}
    while len(found) < len(order):
        longest = len(texts[order[len(found)]]) + 2
        rows = order[len(found) : len(found) + max(1, TOKENS // longest)]
        ids = torch.full((len(rows), longest), end)
        for row, i in enumerate(rows):
            ids[row, : len(texts[i]) + 1] = torch.tensor([start, *texts[i]])
        ends = torch.tensor([len(texts[i]) + 1 for i in rows])
        states = model.encode_embeddings(model.embed(ids.to(model.device)), ends.to(model.device)).tokens
        states = states[torch.arange(len(rows)), ends].double().cpu()
        found.update(zip(rows, states, strict=True))
    return torch.stack([found[i] for i in range(len(texts))])


def basis(rows: Tensor) -> Tensor:
    """Orthonormal basis of what ``rows``, with shape :math:`(n, d)`, span: shape :math:`(d, r)`, float64."""
    left, values, _ = torch.linalg.svd(rows.double().T, full_matrices=False)
    span: Tensor = left[:, values > SMALLEST * values[0]]
    return span


def onto(rows: Tensor, span: Tensor) -> Tensor:
    """The part of ``rows``, with shape :math:`(n, d)`, that lies in a subspace with shape :math:`(d, r)`."""
    return rows @ span @ span.T


def off(rows: Tensor, span: Tensor) -> Tensor:
    """The part of ``rows``, with shape :math:`(n, d)`, that is orthogonal to a subspace."""
    return rows - onto(rows, span)
