r"""What the rest of the package knows of a text-to-image diffusion model.

Notation, throughout :mod:`unlearn.models`: :math:`B` images, :math:`L` text positions, latents :math:`x_t` of
shape :math:`(B, C, h, w)` at timestep :math:`t`, clean latents :math:`x_0`, noise :math:`\epsilon`, and

.. math:: x_t = \alpha_t x_0 + \sigma_t \epsilon, \qquad \alpha_t^2 + \sigma_t^2 = 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import LongTensor, Tensor, nn

from unlearn.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path


class Changes(Protocol):
    """What :meth:`DiffusionModel.erased` asks of an erasure: new values of parameters, by full name."""

    @property
    def weights(self) -> Mapping[str, Tensor]:  # noqa: D102 -- said above
        ...


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts.

    Attributes:
        tokens: One embedding per token, with shape :math:`(B, L, D)`.
        pooled: One embedding per prompt, with shape :math:`(B, P)`, where the family has one.
    """

    tokens: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> Conditioning:
        """The given rows, as a conditioning of their own; a single row is ``[i : i + 1]`` or ``[[i]]``."""
        return Conditioning(self.tokens[rows], None if self.pooled is None else self.pooled[rows])

    def repeat(self, times: int) -> Conditioning:
        """All rows, ``times`` over."""
        pooled = None if self.pooled is None else self.pooled.repeat(times, 1)
        return Conditioning(self.tokens.repeat(times, 1, 1), pooled)

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of all ``parts`` below each other."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditioning(torch.cat([part.tokens for part in parts]), torch.cat(pooled) if pooled else None)


class DiffusionModel(ABC):
    """A denoiser with its text encoder, autoencoder and noise schedule.

    Weights are frozen and in evaluation mode; :func:`unlearn.models.weights.parameters.select` opens some of
    them. Gradients flow through every function below to its tensor arguments.

    Attributes:
        features: What methods may ask for, e.g. ``"cross_attention"``.
        parts: Modules by the first word of their parameters' names: ``unet``, ``text_encoder``, ``vae``.
        tokenizer: The tokenizer of the (first) text encoder.
        max_tokens: Text positions :math:`L`, start and end token among them; 77 for CLIP.
        prediction: What :meth:`predict` returns: ``"epsilon"`` or ``"v_prediction"``.
        alphas_cumprod: :math:`\\alpha_t^2` of every training timestep, with shape :math:`(T,)`, float32.
        folder: Where the weights came from.
        scheduler_config: The checkpoint's own ``scheduler_config.json``.
        pipeline: The diffusers pipeline that opens such a checkpoint.
        forwards: Latents that went through the denoiser so far.
        half: The dtype of the frozen weights while others are open in float32, and None at all other times:
            the networks then compute in it (automatic mixed precision), and predictions are float32.
    """

    features: ClassVar[frozenset[str]]
    parts: dict[str, nn.Module]
    tokenizer: Any
    max_tokens: int
    prediction: str
    alphas_cumprod: Tensor
    folder: Path
    scheduler_config: dict[str, Any]
    pipeline: ClassVar[str]
    forwards: int
    half: torch.dtype | None = None

    @abstractmethod
    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Shape :math:`(C, h, w)` of the latents of a square image of ``resolution`` pixels."""

    @abstractmethod
    def scheduler(self, name: str, steps: int) -> Any:
        """A fresh diffusers scheduler, made from the checkpoint's own configuration.

        Arguments:
            name: ``"ddim"``, ``"euler"``, ``"pndm"`` or ``"dpm++"``.
            steps: Denoising steps that its timesteps are set for.
        """

    @abstractmethod
    def tokenize(self, prompts: Sequence[str]) -> LongTensor:
        """Token ids with shape :math:`(B, L)`, padded, on the model's device.

        Raises:
            ConfigError: If a prompt has more than :math:`L` tokens; nothing is ever cut off silently.
        """

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """Token embeddings, :math:`(B, L, E)`, of ids, :math:`(B, L)`; positions are not added."""

    @abstractmethod
    def encode_embeddings(self, embeddings: Tensor, ends: Tensor | None = None) -> Conditioning:
        """Encodes token embeddings, as attacks and inversions optimise them.

        Arguments:
            embeddings: Token embeddings as :meth:`embed` gives them, with shape :math:`(B, L, E)`.
            ends: Position of each prompt's end token, with shape :math:`(B,)`. Only families with a pooled
                embedding need it.
        """

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encodes :math:`B` prompts.

        Raises:
            ConfigError: If a prompt has too many tokens.
        """

    @abstractmethod
    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's raw output.

        Arguments:
            latents: Noisy latents :math:`x_t`, with shape :math:`(B, C, h, w)`.
            timesteps: With shape :math:`()` or :math:`(B,)`.
            conditioning: :math:`B` encoded prompts.

        Returns:
            An estimate of :meth:`target`, with shape :math:`(B, C, h, w)`.
        """

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Clean latents, :math:`(B, C, h, w)`, of images in :math:`[0, 1]`: the posterior's mean."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Images in :math:`[0, 1]` with shape :math:`(B, 3, H, W)` of clean latents."""

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy latents :math:`x_t`, from clean latents and noise of the same shape :math:`(B, C, h, w)`."""
        alpha, sigma = self._schedule(timesteps, latents)
        return alpha * latents + sigma * noise

    def denoised(self, latents: Tensor, timesteps: Tensor, prediction: Tensor) -> Tensor:
        """The clean latents :math:`x_0` that a prediction on noisy ``latents`` amounts to."""
        alpha, sigma = self._schedule(timesteps, latents)
        if self.prediction == "v_prediction":
            return alpha * latents - sigma * prediction
        return (latents - sigma * prediction) / alpha

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        r"""What :meth:`predict` estimates: :math:`\epsilon`, or :math:`\alpha_t \epsilon - \sigma_t x_0`."""
        if self.prediction == "v_prediction":
            alpha, sigma = self._schedule(timesteps, latents)
            return alpha * noise - sigma * latents
        return noise

    def noise_scale(self, timesteps: Tensor) -> Tensor:
        r"""What makes a difference of two predictions on the same latents one of noise.

        It is 1, or :math:`\alpha_t` for v-prediction, where :math:`\epsilon = \alpha_t v + \sigma_t x_t`.
        """
        squared = self.alphas_cumprod[timesteps.long().to(self.alphas_cumprod.device)]
        return squared.sqrt() if self.prediction == "v_prediction" else torch.ones_like(squared)

    def _schedule(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        r""":math:`\alpha_t, \sigma_t`, each with shape :math:`(B, 1, 1, 1)` or :math:`(1, 1, 1, 1)`."""
        squared = self.alphas_cumprod[timesteps.long().to(self.alphas_cumprod.device)].reshape(-1, 1, 1, 1)
        return squared.sqrt().to(like), (1 - squared).sqrt().to(like)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Parameters of every part, named ``unet.…``, ``text_encoder.…``, ``vae.…``."""
        for part, module in self.parts.items():
            for name, parameter in module.named_parameters():
                yield f"{part}.{name}", parameter

    @contextmanager
    def erased(self, erasure: Changes) -> Iterator[DiffusionModel]:
        """The model with the weights of ``erasure``; its own are back on leaving, whatever happens within.

        The guard of ``erasure``, if any, is not applied here: hand it to
        :func:`~unlearn.models.sampling.draw`.

        Raises:
            ArtifactError: If ``erasure`` holds weights that this model does not have.
        """
        own = dict(self.named_parameters())
        for name, value in erasure.weights.items():
            if name not in own:
                raise ArtifactError(
                    f"erasure: weight '{name}' is not in this model. It was made for another one."
                )
            if value.shape != own[name].shape:
                raise ArtifactError(
                    f"erasure: weight '{name}' has shape {tuple(value.shape)}, this model's has "
                    f"{tuple(own[name].shape)}. It was made for another one."
                )
        kept = {name: own[name].data for name in erasure.weights}
        try:
            for name, value in erasure.weights.items():
                own[name].data = value.to(own[name], copy=True)
            yield self
        finally:
            for name, data in kept.items():
                own[name].data = data

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.parts["unet"].parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the denoiser; of its frozen weights, if others are open in float32."""
        return self.half or next(self.parts["unet"].parameters()).dtype

    def precision(self) -> AbstractContextManager[Any]:
        """What the networks run in: mixed precision where it is needed."""
        return torch.autocast(self.device.type, self.half) if self.half else nullcontext()
