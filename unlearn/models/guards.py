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
from typing import Any, ClassVar

from torch import Tensor, nn

from unlearn.models.model import Conditioning, DiffusionModel


@dataclass(frozen=True)
class Step:
    r"""One denoising step under classifier-free guidance.

    Attributes:
        index: Number of the step, from 0.
        total: Number of steps of the whole trajectory.
        timestep: Timestep of the latents, with shape :math:`()`.
        latents: Noisy latents as the network saw them, with shape :math:`(B, C, h, w)`.
        conditional: Prediction under the prompts, with shape :math:`(B, C, h, w)`.
        unconditional: Prediction under the negative prompt, with shape :math:`(B, C, h, w)`.
        extra: Predictions of the branches after these two, each with shape :math:`(B, C, h, w)`.
        scale: Classifier-free guidance scale.
        noise_scale: What makes a difference of two predictions one of noise, with shape :math:`()`: 1, or
            :math:`\alpha_t` for v-prediction.
    """

    index: int
    total: int
    timestep: Tensor
    latents: Tensor
    conditional: Tensor
    unconditional: Tensor
    extra: tuple[Tensor, ...]
    scale: float
    noise_scale: Tensor


GUARDS: dict[str, type[Guard]] = {}
"""Guards that can be stored, by the name that stands for them on disk; each enters itself."""


class Guard(ABC):  # noqa: B024 -- every hook has a default, and only subclasses make sense
    """Hooks of the denoising loop, in the order in which they are called.

    A guard that is stored with an erasure is a dataclass with a name, by which it is found again:
    ``class Mine(Guard, name="mine")``.

    Attributes:
        differentiable: Whether gradients of what :meth:`guide` gives reach the encoded prompts, and a step
            can be taken without those before it.
    """

    differentiable: ClassVar[bool] = False

    def __init_subclass__(cls, name: str | None = None, **other: Any) -> None:
        super().__init_subclass__(**other)
        if name is None:
            return
        known = GUARDS.setdefault(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"guard: the name '{name}' of {cls.__module__} is taken by {known.__module__}")
        GUARDS[name] = cls

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

    def prepared(self, model: DiffusionModel, prompts: Sequence[str], encoded: Conditioning) -> Guard:
        """The guard with all that it has to find out about the prompts, once before images are drawn.

        Arguments:
            model: The model that will draw.
            prompts: The :math:`P` prompts that will be drawn, each once.
            encoded: The prompts, encoded.
        """
        del model, prompts, encoded
        return self

    def extra_prompts(self) -> Sequence[str]:
        """Prompts whose predictions :meth:`guide` wants beside the two of classifier-free guidance.

        They are predicted in the same forward pass as those two.
        """
        return ()

    def branches(
        self, index: int, prompts: Sequence[str], parts: Sequence[Conditioning]
    ) -> Sequence[Conditioning]:
        """May replace what is predicted at a step; all branches share one forward pass.

        Arguments:
            index: Number of the step, from 0.
            prompts: The :math:`B` prompts; none if the loop was not told.
            parts: The negative prompts, the prompts and the extra prompts, :math:`B` rows each.

        Returns:
            Branches of :math:`B` rows each, the negative prompts and the prompts first; one alone stands for
            both.
        """
        del index, prompts
        return parts

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
        """The fields that are tensors, to be stored as such; all others must be writable as JSON."""
        return {}
