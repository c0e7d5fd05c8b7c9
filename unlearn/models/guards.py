"""Changes to the sampling process, for methods that leave the weights alone.

A guard is handed to :func:`unlearn.models.sampling.sample` or :func:`~unlearn.models.sampling.draw`, which
call its hooks. Every hook does nothing unless a subclass says otherwise; the subclasses live beside their
methods.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One denoising step under classifier-free guidance.

    Attributes:
        index: Number of the step, from 0.
        total: Number of steps of the whole trajectory.
        timestep: Timestep of the latents, with shape :math:`()`.
        latents: Noisy latents as the network saw them, with shape :math:`(B, C, h, w)`.
        conditional: Prediction under the prompts, with shape :math:`(B, C, h, w)`.
        unconditional: Prediction under the negative prompt, with shape :math:`(B, C, h, w)`.
        extra: Predictions under :meth:`Guard.extra_prompts`, each with shape :math:`(B, C, h, w)`.
        scale: Classifier-free guidance scale.
    """

    index: int
    total: int
    timestep: Tensor
    latents: Tensor
    conditional: Tensor
    unconditional: Tensor
    extra: tuple[Tensor, ...]
    scale: float


class Guard(ABC):  # noqa: B024 -- every hook has a default, and only subclasses make sense
    """Hooks of the denoising loop, in the order in which they are called."""

    def attached(self, parts: Mapping[str, nn.Module]) -> AbstractContextManager[None]:
        """May hook into the modules as long as images are drawn.

        Arguments:
            parts: The model's modules by name: ``unet``, ``text_encoder``, ``vae``.
        """
        del parts
        return nullcontext()

    def prompts(self, prompts: Sequence[str], negative: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """May replace the prompts and the negative prompts, one of each per image."""
        return prompts, negative

    def conditioning(self, tokens: Tensor, prompts: Sequence[str]) -> Tensor:
        """May replace the encoded prompts.

        Arguments:
            tokens: One embedding per token, with shape :math:`(B, L, D)`.
            prompts: The :math:`B` prompts that they encode.

        Returns:
            Embeddings with the same shape.
        """
        del prompts
        return tokens

    def extra_prompts(self) -> Sequence[str]:
        """Prompts whose predictions :meth:`guide` wants beside the two of classifier-free guidance.

        They are predicted in the same forward pass as those two.
        """
        return ()

    def guide(self, step: Step) -> Tensor:
        r"""The guided prediction: :math:`\epsilon_\varnothing + s \, (\epsilon_c - \epsilon_\varnothing)`.

        Returns:
            A prediction with shape :math:`(B, C, h, w)`.
        """
        return step.unconditional + step.scale * (step.conditional - step.unconditional)

    def screen(self, images: Tensor) -> Tensor:
        """May replace finished images, with shape :math:`(B, 3, H, W)` and values in :math:`[0, 1]`."""
        return images

    def state(self) -> dict[str, Tensor]:
        """Tensors to store beside the guard's own fields."""
        return {}
