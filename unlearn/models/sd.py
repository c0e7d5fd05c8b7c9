"""Stable Diffusion 1 and 2, and every checkpoint in their format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler


@dataclass(kw_only=True)
class StableDiffusion:
    """Stable Diffusion 1 and 2 (epsilon or v-prediction), and every checkpoint in their format.

    References:
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
        | https://arxiv.org/abs/2112.10752

    Attributes:
        world: Which wording of a concept fits: ``sd`` or ``pocket``.
        source: Hub id, folder, or ``package:pocket``.
        revision: Branch, tag or commit on the hub; None for its default branch.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        clip: Key in ``eval.detectors`` of the CLIP that scores alignment.
        inception: Key in ``eval.detectors`` of the feature network for FID and KID.
        sampler: How this checkpoint's images are drawn.
    """

    paper: ClassVar[str] = "2112.10752"
    features: ClassVar[frozenset[str]] = frozenset({"cross_attention", "text_encoder", "epsilon"})

    world: str
    source: str
    revision: str | None
    dtype: str
    clip: str
    inception: str
    sampler: Sampler

    def check(self) -> list[str]:
        """Problems that can be found before a weight is loaded, each as ``<key>: <what is wrong>``."""
        return []

    def load(self, device: str) -> DiffusionModel:
        """Reads the weights.

        Arguments:
            device: A torch device, e.g. ``cpu`` or ``cuda:0``.

        Raises:
            ConfigError: If :meth:`check` finds problems, or the weights are damaged.
        """
        raise NotImplementedError
