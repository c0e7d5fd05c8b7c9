"""The feature network of FID and KID."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import ImageFeatures, read_reference
from unlearn.detectors.loading import whole
from unlearn.errors import ConfigError


@dataclass(kw_only=True)
class Inception(ImageFeatures):
    """The 2048 pooled features of TensorFlow's Inception-v3, as torch-fidelity ports it.

    The weights are those of ``weights-inception-2015-12-05-6726825d.pth``, and images are resized to 299
    pixels bilinearly without antialiasing, as pytorch-fid and torch-fidelity do. Torchvision's Inception is
    another network and gives other distances.

    References:
        | Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015)
        | https://arxiv.org/abs/1512.00567

    Attributes:
        weights: File of the weights; None if there is none, which a metric then says.
        statistics: A safetensors file with the features of real images under ``features``; None if there are
            none.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    weights: str | None
    statistics: str | None
    device: str

    @property
    def files(self) -> list[Path]:
        """The weights and the features of real images, as far as they are given."""
        return [Path(each) for each in (self.weights, self.statistics) if each is not None]

    def check(self) -> list[str]:
        """Whether the weights are there, and the package that knows the network."""
        from importlib.util import find_spec

        problems = []
        if self.weights is None:
            problems += [
                "weights: needs the file weights-inception-2015-12-05-6726825d.pth, of torch-fidelity."
            ]
        elif not Path(self.weights).is_file():
            problems += [f"weights: there is no file {self.weights}."]
        if find_spec("torch_fidelity") is None:
            problems += ["weights: needs the package of the extra: pip install 'unlearn[inception]'."]
        return problems

    def features(self, images: Tensor) -> Tensor:
        """Features with shape :math:`(B, 2048)`."""
        pixels = (images * 255).round().to(torch.uint8).to(self.device)
        with torch.no_grad():
            (found,) = self._loaded(pixels)
        return torch.as_tensor(found)

    def reference(self) -> Tensor | None:
        """The features in ``statistics``."""
        return read_reference(self.statistics)

    @cached_property
    def _loaded(self) -> Any:
        if problems := self.check():
            raise ConfigError(f"detector inception: {problems[0]}")
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        with whole(f"the weights at {self.weights}", "Fetch them again."):
            network = FeatureExtractorInceptionV3("inception", ["2048"], self.weights)
        return network.eval().requires_grad_(False).to(self.device)
