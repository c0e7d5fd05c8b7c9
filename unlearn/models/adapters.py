"""Low-rank additions to linear layers, one for each sample of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from unlearn.models.model import DiffusionModel

#: The factors of each addition: :math:`A`, with shape :math:`(N, r, d)`, and :math:`B`, with shape
#: :math:`(N, o, r)`.
Factors = Mapping[str, tuple[Tensor, Tensor]]


@contextmanager
def adapted(model: DiffusionModel, factors: Factors) -> Iterator[None]:
    r"""Adds :math:`B A x` to what linear layers make of :math:`x`, while the block lasts.

    Arguments:
        factors: By the full name of the layer's weight, whose shape is :math:`(o, d)`. Their :math:`N` is the
            size of the batch, so that samples with adapters of their own share a forward pass, or 1.
    """
    with ExitStack() as stack:
        for name, (down, up) in factors.items():
            part, _, path = name.removesuffix(".weight").partition(".")
            module = model.parts[part].get_submodule(path)
            stack.callback(module.register_forward_hook(_addition(down, up)).remove)
        yield


def _addition(down: Tensor, up: Tensor) -> Any:
    def add(_module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (x,) = arguments
        return output + x @ down.to(x).mT @ up.to(x).mT

    return add
