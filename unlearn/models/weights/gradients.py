"""Gradients of losses in any precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from unlearn.errors import IncompatibleError

#: What losses are multiplied by on their way back, and gradients divided by: in float16 small ones would
#: vanish. In float32 and bfloat16 a power of two changes nothing.
LOSS_SCALE = 2.0**12


def gradients_of(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a loss with shape :math:`()`, in any precision; zeros for parameters that it ignores.

    Raises:
        IncompatibleError: If activations are to be computed anew, and cannot be.
    """
    found = used_gradients(loss, parameters)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def used_gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The same with None for parameters that the loss ignores: they stay as they are."""
    try:
        found: list[Tensor | None] = list(
            torch.autograd.grad(LOSS_SCALE * loss, parameters, allow_unused=True)
        )
    except CheckpointError as error:
        raise IncompatibleError(
            "model.checkpointing: what this method adds to the denoiser while it predicts is gone when "
            "activations are computed anew. Use model.checkpointing=false."
        ) from error
    for index, gradient in enumerate(found):  # one by one, so that no second copy of all is held
        found[index] = None if gradient is None else gradient / LOSS_SCALE
    return found
