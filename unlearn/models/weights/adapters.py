"""Low-rank additions to linear layers, one for each sample of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.models.compiled import uncompiled
from unlearn.models.model import DiffusionModel

#: The factors of each addition: :math:`A`, with shape :math:`(N, r, d)`, and :math:`B`, with shape
#: :math:`(N, o, r)`.
Factors = Mapping[str, tuple[Tensor, Tensor]]


@dataclass
class Strengths:
    """How strongly each sample of the next forward pass takes each of the :math:`r` ranks.

    Attributes:
        values: With shape :math:`(B, r)`; None for nothing.
    """

    values: Tensor | None = None


@contextmanager
def adapted(model: DiffusionModel, factors: Factors) -> Iterator[None]:
    r"""Adds :math:`B A x` to what linear layers make of :math:`x`, while the block lasts.

    Arguments:
        factors: By the full name of the layer's weight, whose shape is :math:`(o, d)`, or
            :math:`(o, d, 1, 1)` for a convolution of single pixels. Their :math:`N` is the size of the batch,
            so that samples with adapters of their own share a forward pass, or 1.
    """
    with added(model.parts, factors):
        yield


@contextmanager
def added(
    parts: Mapping[str, nn.Module], factors: Factors, strengths: Strengths | None = None
) -> Iterator[None]:
    """Like :func:`adapted`, for modules by the first word of their parameters' names.

    Arguments:
        strengths: Scales the additions, and may change from one forward pass to the next; None for 1.
    """
    with ExitStack() as stack:
        stack.enter_context(uncompiled(parts.get("unet")))
        for name, (down, up) in factors.items():
            part, _, path = name.removesuffix(".weight").partition(".")
            module = parts[part].get_submodule(path)
            stack.callback(module.register_forward_hook(_addition(down, up, strengths)).remove)
        yield


def unpacked(vectors: Tensor, shapes: Mapping[str, tuple[int, int]], rank: int) -> Factors:
    """The factors of several additions that lie in vectors.

    Arguments:
        vectors: With shape :math:`(N, K)`: for each layer in turn, :math:`A` and :math:`B`.
        shapes: Shape :math:`(o, d)` of each layer's weight, by full name.
        rank: :math:`r`.
    """
    pieces = [shape for o, d in shapes.values() for shape in ((rank, d), (o, rank))]
    flat = torch.split(vectors, [prod(shape) for shape in pieces], dim=1)
    shaped = [piece.reshape(-1, *shape) for piece, shape in zip(flat, pieces, strict=True)]
    return dict(zip(shapes, zip(shaped[::2], shaped[1::2], strict=True), strict=True))


def _addition(down: Tensor, up: Tensor, strengths: Strengths | None) -> Any:
    def add(_module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = arguments
        if strengths is not None and strengths.values is None:
            return output
        rows = x.flatten(2).mT if x.ndim == 4 else x
        low = rows @ down.to(x).mT
        if strengths is not None and strengths.values is not None:
            low = low * strengths.values[:, None].to(low)
        change = low @ up.to(x).mT
        return output + (change.mT.reshape(*output.shape) if x.ndim == 4 else change)

    return add
