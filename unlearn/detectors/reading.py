"""What a network says of images one by one, where it may fail on some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.errors import UnlearnError
from unlearn.system.shortage import memory_short, reason

BROKEN = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a network raises on an image that it cannot take; anything else is a mistake in the code."""


@dataclass(frozen=True)
class Failure:
    """Why there is no row for an image.

    Attributes:
        reason: What the network raised, or that what it said is not finite.
    """

    reason: str


@torch.no_grad()
def rows(network: Callable[[Tensor], Tensor], images: Tensor) -> list[Tensor | Failure]:
    """What ``network`` says of each image, on the CPU with shape :math:`(R)`, or why it says nothing.

    All images are asked for together; only where that fails, or where memory does not suffice for it, is each
    asked for by itself.

    Raises:
        UnlearnError: If the network gives more or fewer rows than there are images.
        RuntimeError, MemoryError: If memory does not suffice for a single image.
    """
    try:
        found = network(images).detach().cpu()
    except (*BROKEN, MemoryError) as error:
        if len(images) == 1:
            if memory_short(error):
                raise
            return [Failure(reason(error))]
    else:
        if len(found) != len(images):
            raise UnlearnError(f"detector: gives {len(found)} rows for {len(images)} images.")
        return [row if bool(row.isfinite().all()) else Failure("not a finite number") for row in found]
    # Only here are the tensors gone that the traceback of the error held.
    return [row for image in images for row in rows(network, image[None])]
