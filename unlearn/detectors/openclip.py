"""CLIP through open_clip: features of images and texts, and a detector for anything that can be said."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import ImageText, read_reference
from unlearn.detectors.loading import whole
from unlearn.errors import ConfigError, unknown
from unlearn.settings import setting
from unlearn.system.network import patient

ADVICE = "Offline, set its 'weights' to a file that you have."
"""What helps where weights cannot be fetched."""


@dataclass(kw_only=True)
class OpenClip(ImageText):
    """A CLIP of open_clip's.

    Images are prepared as they were when it was evaluated, not as when it was trained, which crops at random.
    Weights that are not there are an error: open_clip would go on with random ones.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Attributes:
        architecture: open_clip's name of it. The ``openai`` weights need those that end in ``-quickgelu``.
        weights: open_clip's tag of the weights, or a file.
        others: Labels that compete with the one asked for.
        template: Sentence that a label is put into.
        threshold: Probability from which a label counts as shown.
        statistics: A safetensors file with the features of the world's real images under ``features``; None
            if there are none to compare with.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    architecture: str
    weights: str
    others: list[str]
    template: str = setting(contains=("{}",))
    threshold: float = setting(least=0, most=1)
    statistics: str | None
    device: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "openai" and not self.architecture.endswith("-quickgelu"):
            raise ValueError(
                f"architecture: the openai weights need QuickGELU, use {self.architecture}-quickgelu, "
                f"got {self.architecture}, whose scores would be shifted"
            )

    @property
    def files(self) -> list[Path]:
        """The weights, fetched if they are not there, and the features of real images, if given."""
        import open_clip

        if problems := self.check():
            raise ConfigError(f"detector {self.architecture}: {problems[0]}")
        weights = self.weights
        if not _is_file(weights):
            with whole(f"{self.architecture}: the weights '{weights}'", ADVICE), patient():
                weights = open_clip.download_pretrained(
                    open_clip.get_pretrained_cfg(self.architecture, weights)
                )
        return [Path(each) for each in (weights, self.statistics) if each is not None]

    def check(self) -> list[str]:
        """Whether open_clip knows the architecture and the weights."""
        import open_clip

        if self.architecture not in (known := open_clip.list_models()):
            return [f"architecture: {unknown('architecture', self.architecture, known)}"]
        if _is_file(self.weights):
            return [] if Path(self.weights).is_file() else [f"weights: there is no file {self.weights}."]
        tags = open_clip.list_pretrained_tags_by_model(self.architecture)
        return [] if self.weights in tags else [f"weights: {unknown('weights', self.weights, tags)}"]

    def features(self, images: Tensor) -> Tensor:
        """Image features with shape :math:`(B, D)`, as the network gives them."""
        from torchvision.transforms.functional import to_pil_image

        network, prepare, _ = self._loaded
        with torch.no_grad():
            pixels = torch.stack([prepare(to_pil_image(image)) for image in images.cpu()])
            found: Tensor = network.encode_image(pixels.to(self.device)).float()
        return found

    def text_features(self, texts: list[str]) -> Tensor:
        """Text features with shape :math:`(B, D)`; what is beyond 77 tokens is cut off."""
        network, _, tokenize = self._loaded
        with torch.no_grad():
            found: Tensor = network.encode_text(tokenize(texts).to(self.device)).float()
        return found

    def reference(self) -> Tensor | None:
        """The features in ``statistics``."""
        return read_reference(self.statistics)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, Any]:
        import open_clip

        if problems := self.check():
            raise ConfigError(f"detector {self.architecture}: {problems[0]}")
        with whole(f"{self.architecture}: the weights '{self.weights}'", ADVICE), patient():
            network = open_clip.create_model(
                self.architecture, self.weights, device=self.device, require_pretrained=True
            )
        network.eval().requires_grad_(False)
        settings = open_clip.transform.PreprocessCfg(**network.visual.preprocess_cfg)
        prepare = open_clip.transform.image_transform_v2(settings, is_train=False)
        return network, prepare, open_clip.get_tokenizer(self.architecture)


def _is_file(weights: str) -> bool:
    return "/" in weights or "." in weights
