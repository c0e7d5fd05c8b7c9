"""Latent re-attention: low frequencies of the U-Net's skip connections, held against another branch's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unlearn.models.compiled import uncompiled


class ReAttention:
    r"""Keeps a branch's skip features from growing beyond the original prompt's at low frequencies.

    With :math:`F` and :math:`F^o` the two-dimensional Fourier transforms of the features that a skip
    connection brings for the guarded and for the original prompt, the frequencies :math:`k` with
    :math:`|k_x|, |k_y| \le 1` become

    .. math:: F_k \leftarrow \begin{cases} s F_k & \Re F_k > \Re F^o_k \\ F_k & \text{else.} \end{cases}

    Equal features stay as they are. The band holds :math:`-k` with every :math:`k`, so that features stay
    real. Where the skip meets hidden states of the U-Net's greatest width, :math:`s = s_1`; of the next
    smaller one, :math:`s = s_2`; all others are left alone.

    The released code means to do this and does not: its condition compares the two, but it is never reached.
    It would set the coefficient to the number :math:`s` instead of scaling it, and its band lacks the
    positive frequencies.

    Attributes:
        scales: :math:`s_1, s_2`.
        active: Which images of the batch are held, with shape :math:`(B,)`; None for none. The U-Net's batch
            must then be :math:`B` rows of something else, of the guarded and of the original prompts.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        self.scales = tuple(scales)
        self.active: Tensor | None = None

    @contextmanager
    def attached(self, unet: nn.Module) -> Iterator[None]:
        """Hooks into a ``UNet2DConditionModel`` while the block lasts."""
        model: Any = unet
        widths = model.config.block_out_channels[::-1]
        scale = dict(zip(sorted(set(widths), reverse=True), self.scales, strict=False))
        handles = []
        for level, block in enumerate(model.up_blocks):
            for index, resnet in enumerate(block.resnets):
                # What comes from below has that level's width in front of the first resnet.
                hidden = widths[max(level - (index == 0), 0)]
                if hidden in scale:
                    handles.append(resnet.register_forward_pre_hook(self._hook(hidden, scale[hidden])))
        try:
            with uncompiled(unet):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, hidden: int, scale: float) -> Any:
        def hook(_resnet: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if self.active is None:
                return None
            features, *others = inputs
            other, guarded, original = features.chunk(3)
            skip = damped(guarded[:, hidden:], original[:, hidden:], scale)
            skip = torch.where(self.active[:, None, None, None], skip, guarded[:, hidden:])
            guarded = torch.cat([guarded[:, :hidden], skip], dim=1)
            return (torch.cat([other, guarded, original]), *others)

        return hook


def damped(guarded: Tensor, original: Tensor, scale: float) -> Tensor:
    """``guarded`` with its low frequencies scaled down where they exceed those of ``original``.

    Arguments:
        guarded: Features with shape :math:`(B, C, h, w)`.
        original: Features with the same shape.
        scale: What is left of a coefficient.
    """
    spectrum, reference = torch.fft.fft2(guarded.float()), torch.fft.fft2(original.float())
    low = [torch.fft.fftfreq(n, 1 / n, device=guarded.device).abs() <= 1 for n in guarded.shape[-2:]]
    grown = (spectrum.real > reference.real) & low[0][:, None] & low[1]
    change: Tensor = torch.fft.ifft2(torch.where(grown, (scale - 1) * spectrum, 0)).real
    return guarded + change.to(guarded.dtype)
