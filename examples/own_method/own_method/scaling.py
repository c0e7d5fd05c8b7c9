"""What a guard does to a prediction."""

from __future__ import annotations

from torch import Tensor


def scaled(conditional: Tensor, unconditional: Tensor, scale: Tensor) -> Tensor:
    """Classifier-free guidance.

    Arguments:
        conditional: Predictions under the prompts, with shape :math:`(B, C, h, w)`.
        unconditional: Predictions under the negative prompts, with the same shape.
        scale: Of each image, with shape :math:`(B, 1, 1, 1)`.
    """
    return unconditional + scale * (conditional - unconditional)
