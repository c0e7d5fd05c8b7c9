"""Stable Diffusion 1 and 2, and every checkpoint in their format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import LongTensor, Tensor, nn

from unlearn.errors import ConfigError, unknown
from unlearn.models.compiled import compile_in_place
from unlearn.models.families.text import run_tower, tokenize
from unlearn.models.files import loading, source
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import SCHEDULERS, Sampler
from unlearn.settings import Settings, setting

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(kw_only=True)
class StableDiffusion(Settings):
    """Stable Diffusion 1 and 2 (epsilon or v-prediction), and every checkpoint in their format.

    References:
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
        | https://arxiv.org/abs/2112.10752

    Attributes:
        world: Which wording of a concept fits: ``sd`` or ``pocket``.
        source: Hub id, folder, or ``package:pocket``.
        revision: Branch, tag or commit on the hub; None for its default branch.
        dtype: ``float32``, ``bfloat16`` or ``float16``. Weights under training are float32 in any case; of
            the two halves, float16 is nearer to float32 where a loss is a small difference of predictions.
        clip: Key in ``eval.detectors`` of the CLIP that scores alignment.
        inception: Key in ``eval.detectors`` of the feature network for FID and KID.
        sampler: How this checkpoint's images are drawn.
        checkpointing: Compute the denoiser's activations anew on the way back instead of keeping them:
            training takes about a third more time, and less memory.
        compile: Compile the denoiser: worth it for long work with few shapes of batches.
    """

    paper: ClassVar[str] = "2112.10752"
    neutral: ClassVar[frozenset[str]] = frozenset({"checkpointing", "compile"})
    features: ClassVar[frozenset[str]] = frozenset({"cross_attention", "text_encoder"})
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusionPipeline",)
    parts: ClassVar[Mapping[str, str]] = {
        "unet": "diffusers",
        "text_encoder": "transformers",
        "vae": "diffusers",
    }

    world: str
    source: str
    revision: str | None
    dtype: str = setting(choices=DTYPES)
    clip: str
    inception: str
    sampler: Sampler
    checkpointing: bool = False
    compile: bool = False

    def check(self) -> list[str]:
        """Problems that can be found before a weight is loaded, each as ``<key>: <what is wrong>``.

        A hub id that is not in the cache is looked up on the hub, once and with a time limit, unless it is
        offline.
        """
        try:
            folder = source.locate(self.source, self.revision)
        except ConfigError as error:
            return [str(error)]
        bad = [] if folder is None else source.problems(folder, self.pipelines, self.parts)
        if folder is None or (bad and not self._is_local()):
            return source.reachable(self.source, self.revision)
        return bad

    def load(self, device: str) -> DiffusionModel:
        """Reads the weights.

        Arguments:
            device: A torch device, e.g. ``cpu`` or ``cuda:0``.

        Raises:
            ConfigError: If :meth:`check` finds problems, or the weights are damaged.
        """
        return self._build(self.folder(), device)

    def folder(self) -> Path:
        """The checkpoint's folder; fetches what is not on this machine.

        Raises:
            ConfigError: If :meth:`check` finds problems, or the hub does not give it.
        """
        if bad := self.check():
            raise ConfigError("\n".join(f"model.{problem}" for problem in bad))
        folder = source.locate(self.source, self.revision)
        if folder is None or source.problems(folder, self.pipelines, self.parts):
            folder = source.download(self.source, self.revision)
            if bad := source.problems(folder, self.pipelines, self.parts):
                raise ConfigError("\n".join(f"model.{problem}" for problem in bad))
        return folder

    def files(self) -> dict[str, Path]:
        """The files that the model comes from, by their path in :meth:`folder`.

        Raises:
            ConfigError: As :meth:`folder`.
        """
        return source.files(self.folder(), self.parts)

    def _build(self, folder: Path, device: str) -> DiffusionModel:
        classes = {"unet": "UNet2DConditionModel", "text_encoder": "CLIPTextModel", "vae": "AutoencoderKL"}
        parts = {name: loading.part(folder, name, cls, DTYPES[self.dtype]) for name, cls in classes.items()}
        unet: Any = parts["unet"]
        if self.checkpointing:
            unet.enable_gradient_checkpointing()
        if self.compile:
            compile_in_place(unet)
        tokenizer, schedule = loading.tokenizer(folder, "tokenizer"), loading.scheduler_config(folder)
        moved = {name: module.to(device) for name, module in parts.items()}
        with loading.described(folder):
            return StableDiffusionModel(folder, moved, tokenizer, schedule)

    def _is_local(self) -> bool:
        return self.source.startswith("package:") or Path(self.source).expanduser().is_dir()


class StableDiffusionModel(DiffusionModel):
    """A loaded Stable Diffusion 1 or 2."""

    features = StableDiffusion.features
    pipeline = "StableDiffusionPipeline"

    def __init__(
        self, folder: Path, parts: dict[str, nn.Module], tokenizer: Any, scheduler_config: dict[str, Any]
    ) -> None:
        self.folder = folder
        self.parts = {name: module.eval().requires_grad_(False) for name, module in parts.items()}
        self.tokenizer = tokenizer
        self.forwards = 0
        # `Any`, because diffusers and transformers describe their modules' attributes in configurations only.
        self._unet: Any = parts["unet"]
        self._text: Any = parts["text_encoder"]
        self._vae: Any = parts["vae"]
        self.max_tokens = int(cast(Any, self._text).config.max_position_embeddings)
        self.scheduler_config = scheduler_config
        self.prediction = scheduler_config.get("prediction_type", "epsilon")
        if self.prediction not in PREDICTIONS:
            raise ConfigError(
                f"model.source: {folder}: {unknown('prediction type', self.prediction, PREDICTIONS)}"
            )
        self.alphas_cumprod = self.scheduler("ddim", 1).alphas_cumprod.to(self.device)

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Channels of the U-Net, and the side that the autoencoder's halvings leave."""
        side = resolution // 2 ** (len(self._vae.config.block_out_channels) - 1)
        return self._unet.config.in_channels, side, side

    def scheduler(self, name: str, steps: int) -> Any:
        """A scheduler made as ``from_config`` makes it for a diffusers pipeline."""
        import diffusers

        scheduler = getattr(diffusers, SCHEDULERS[name]).from_config(self.scheduler_config)
        scheduler.set_timesteps(steps, device=self.device)
        return scheduler

    def tokenize(self, prompts: Sequence[str]) -> LongTensor:
        """CLIP tokens, 77 a prompt."""
        return cast(LongTensor, tokenize(self.tokenizer, prompts, self.max_tokens).to(self.device))

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of the text tower's token table."""
        return cast(Tensor, self._text.get_input_embeddings()(tokens))

    def encode_embeddings(self, embeddings: Tensor, ends: Tensor | None = None) -> Conditioning:
        """Last hidden states after the final layer norm; there is no pooled embedding."""
        del ends
        with self.precision():
            return Conditioning(run_tower(self._text, embeddings))

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Tokens, through the table and the tower; bit for bit what ``CLIPTextModel`` gives."""
        return self.encode_embeddings(self.embed(self.tokenize(prompts)))

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """One forward pass of the U-Net."""
        self.forwards += len(latents)
        with self.precision():
            output = self._unet(
                latents, timesteps, encoder_hidden_states=conditioning.tokens, return_dict=False
            )
        return cast(Tensor, output[0].float() if self.half else output[0])

    def encode_images(self, images: Tensor) -> Tensor:
        """Mode of the autoencoder's posterior, scaled to the U-Net's range."""
        posterior = self._vae.encode(images.to(self.device, self.dtype) * 2 - 1).latent_dist
        return cast(Tensor, posterior.mode() * self._vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """One forward pass of the autoencoder's decoder."""
        # Those that were drawn while weights are open in float32 are float32, too.
        clean = latents.to(self.dtype) / self._vae.config.scaling_factor
        images = self._vae.decode(clean, return_dict=False)[0]
        return cast(Tensor, (images * 0.5 + 0.5).clamp(0, 1))
