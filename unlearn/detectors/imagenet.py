"""The thousand classes of ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import Detector
from unlearn.detectors.loading import whole
from unlearn.system.network import limited, silent

OWN_FILE = "Without a network, set 'weights' to a file that you have."


@dataclass(kw_only=True)
class ImageNetClassifier(Detector):
    """ResNet-50 with torchvision's ``IMAGENET1K_V2`` weights; an image shows its most probable class.

    The labels are torchvision's names, as in ``tench``, ``English springer``, ``cassette player``, ``chain
    saw``, ``church``, ``French horn``, ``garbage truck``, ``gas pump``, ``golf ball``, ``parachute``.

    It never abstains: it has no class for what is none of the thousand, and a low probability may as well
    mean two classes that are alike.

    References:
        | Deep Residual Learning for Image Recognition (He et al., 2015)
        | https://arxiv.org/abs/1512.03385

    Attributes:
        weights: File of the weights; None for torchvision's, which are downloaded once.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    weights: str | None
    device: str

    @cached_property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the classes."""
        from torchvision.models import ResNet50_Weights

        return tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])

    @property
    def files(self) -> list[Path]:
        """The weights; torchvision's are fetched if they are not there."""
        if self.weights is not None:
            return [Path(self.weights)]
        from torchvision.models import ResNet50_Weights

        url = ResNet50_Weights.IMAGENET1K_V2.url
        kept = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
        if not kept.exists():
            read_weights(None, url)
        return [kept]

    def check(self) -> list[str]:
        """Whether the file of the weights is there."""
        if self.weights is not None and not Path(self.weights).is_file():
            return [f"weights: there is no file {self.weights}."]
        return []

    def scores(self, images: Tensor) -> Tensor:
        """Probability of each class, with shape :math:`(B, 1000)`."""
        network, prepare = self._loaded
        return torch.softmax(network(prepare(images.to(self.device))).float(), dim=1)

    def decide(self, readout: Tensor, label: str) -> Tensor:
        """Whether ``label`` is the most probable class, as booleans with shape :math:`(B)`."""
        return readout.argmax(dim=1) == self.labels.index(label)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from torchvision.models import ResNet50_Weights, resnet50

        pinned = ResNet50_Weights.IMAGENET1K_V2  # DEFAULT is whatever a later torchvision prefers
        network = resnet50(weights=None)
        weights = read_weights(self.weights, pinned.url)
        with whole(f"the weights at {self.weights or pinned.url}", OWN_FILE):
            network.load_state_dict(weights)
        network.eval().requires_grad_(False)
        return network.to(self.device), pinned.transforms()


def read_weights(path: str | None, url: str) -> Any:
    """A state dict from a file, or from ``url`` through torch's cache.

    Raises:
        ConfigError: If it cannot be had.
    """
    with whole(f"the weights at {path or url}", OWN_FILE):
        if path is not None:
            return torch.load(path, map_location="cpu", weights_only=True)
        here = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2]).exists()
        if not here and (problem := silent(url)):
            raise OSError(problem)
        with limited():
            return torch.hub.load_state_dict_from_url(
                url, map_location="cpu", check_hash=True, weights_only=True
            )
