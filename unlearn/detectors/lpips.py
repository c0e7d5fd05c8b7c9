"""LPIPS as features whose squared distances it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import ImageFeatures
from unlearn.detectors.imagenet import OWN_FILE, read_weights
from unlearn.detectors.loading import whole
from unlearn.errors import ConfigError
from unlearn.settings import setting

LAYERS = (2, 5, 8, 10, 12)
"""Where AlexNet's convolutions end, each with its rectifier."""

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's channels. LPIPS writes them for values from -1 to 1."""

PACKAGES = {"torchmetrics": "functional/image/lpips_models/alex.pth", "lpips": "weights/v0.1/alex.pth"}
"""Packages that the learned weights of the channels come with, and where."""


@dataclass(kw_only=True)
class LPIPS(ImageFeatures):
    r"""AlexNet's activations, of unit length at each place and weighted by LPIPS 0.1.

    With activations :math:`f_l` of layer :math:`l` and its learned weights :math:`w_l \ge 0`, the features
    are all :math:`\sqrt{w_l / H_l W_l}\, f_l`: the squared distance of two images' features is their LPIPS.

    References:
        | The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al., 2018)
        | https://arxiv.org/abs/1801.03924

    Attributes:
        weights: File of AlexNet's weights; None for torchvision's ``IMAGENET1K_V1``, which are downloaded
            once.
        heads: File of the learned weights, ``alex.pth``; None for that of torchmetrics or lpips, as far as
            one of these packages is installed.
        size: Side that images are resized to, with antialiasing. ESD's and UCE's scripts take 64; numbers at
            different sizes cannot be compared.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    weights: str | None
    heads: str | None
    size: int = setting(least=64, most=512, unit="pixels")
    device: str

    @property
    def files(self) -> list[Path]:
        """AlexNet's weights and those of the channels; torchvision's are fetched if they are not there."""
        if problems := self.check():
            raise ConfigError(f"detector lpips: {problems[0]}")
        if self.weights is not None:
            return [Path(self.weights), self._heads()]
        url = _pinned()
        kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        if not kept.exists():
            read_weights(None, url)
        return [kept, self._heads()]

    def check(self) -> list[str]:
        """Whether the files are there."""
        problems = []
        if self.weights is not None and not Path(self.weights).is_file():
            problems.append(f"weights: there is no file {self.weights}.")
        if self.heads is not None and not Path(self.heads).is_file():
            problems.append(f"heads: there is no file {self.heads}.")
        if self.heads is None and not list(_installed()):
            problems.append(
                f"heads: needs the file alex.pth of LPIPS 0.1, which comes with {' and '.join(PACKAGES)}."
            )
        return problems

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Features with shape :math:`(B, D)`."""
        network, heads = self._loaded
        side = (self.size, self.size)
        x = images.float().to(self.device)
        if x.shape[-2:] != side:
            x = torch.nn.functional.interpolate(x, size=side, mode="bilinear", antialias=True).clamp(0, 1)
        x = (x - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(SPREAD)[:, None, None]
        found, start = [], 0
        for end, head in zip(LAYERS, heads, strict=True):
            x = network[start:end](x)
            unit = x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
            found.append((unit * (head / (x.shape[-2] * x.shape[-1])).sqrt()).flatten(1))
            start = end
        return torch.cat(found, dim=1)

    @cached_property
    def _loaded(self) -> tuple[Any, list[Tensor]]:
        from torchvision.models import alexnet

        if problems := self.check():
            raise ConfigError(f"detector lpips: {problems[0]}")
        network = alexnet(weights=None)
        weights = read_weights(self.weights, _pinned())
        with whole(f"the weights at {self.weights or _pinned()}", OWN_FILE):
            network.load_state_dict(weights)
        network.eval().requires_grad_(False)
        path = self._heads()
        with whole(f"the file {path}", "Take alex.pth of LPIPS 0.1."):
            learned = torch.load(path, map_location="cpu", weights_only=True)
            heads = [learned[f"lin{i}.model.1.weight"].float().clamp_min(0) for i in range(len(LAYERS))]
        return network.features.to(self.device), [head.to(self.device) for head in heads]

    def _heads(self) -> Path:
        return Path(self.heads) if self.heads is not None else next(_installed())


def _pinned() -> str:
    from torchvision.models import AlexNet_Weights

    url: str = AlexNet_Weights.IMAGENET1K_V1.url
    return url


def _installed() -> Iterator[Path]:
    """The learned weights that installed packages bring; none of them is imported."""
    for name, inside in PACKAGES.items():
        found = find_spec(name)
        for folder in (found.submodule_search_locations or ()) if found else ():
            if (path := Path(folder) / inside).is_file():
                yield path
