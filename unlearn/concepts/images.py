"""Images in memory and on disk.

Throughout the package a batch of images is a float tensor with shape :math:`(B, 3, H, W)` and values in
:math:`[0, 1]`. On disk an image is a PNG with 8 bits a channel: lossless, since JPEG changes what detectors
and feature networks see. Metrics read images from disk only, so that a score does not depend on whether its
images were just drawn or found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from unlearn.concepts.concept import PromptSet
from unlearn.errors import ArtifactError
from unlearn.system.writing import whole


@dataclass(frozen=True, order=True)
class ImageRequest:
    """Which images a metric reads: prompts, and the model that draws them.

    Attributes:
        prompts: A role, or ``attack:<name>`` for the prompts that an attack found.
        model: ``"original"`` or ``"erased"``.
    """

    prompts: str
    model: str = "erased"

    def __str__(self) -> str:
        return f"{self.model}:{self.prompts}"


@dataclass(frozen=True)
class ImageSet:
    """Generated images on disk, in the order of their prompts.

    Attributes:
        request: What was asked for.
        prompts: The prompts and seeds, one for each image.
        folder: Holds ``00000.png``, ``00001.png``, …
    """

    request: ImageRequest
    prompts: PromptSet
    folder: Path

    def __len__(self) -> int:
        return len(self.prompts)

    def path(self, index: int) -> Path:
        """The file of one image."""
        return self.folder / image_name(index)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yields all images in order, with shape :math:`(B, 3, H, W)` and at most ``size`` of them.

        Raises:
            ArtifactError: If an image is missing or damaged.
        """
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            yield torch.stack([read_image(self.path(index)) for index in range(start, stop)])


def image_name(index: int) -> str:
    """The name of an image's file by its position."""
    return f"{index:05d}.png"


def write_image(path: Path, image: Tensor, *, durable: bool = False) -> None:
    """Writes a PNG, whole or not at all.

    Arguments:
        image: With shape :math:`(3, H, W)` and values in :math:`[0, 1]`; rounded to 8 bits.
        durable: Whether to wait until the disk has it. An artifact's images are settled when it is whole.

    Raises:
        ValueError: If a value is not finite, which no picture can show.
        WriteError: If it cannot be written.
    """
    if not bool(image.isfinite().all()):
        raise ValueError(f"{path.name}: the image holds values that are not finite")
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    with whole(path, durable=durable) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="PNG", compress_level=1)


def read_image(path: Path) -> Tensor:
    """Reads an image as RGB, with shape :math:`(3, H, W)` and values in :math:`[0, 1]`.

    Raises:
        ArtifactError: If it is missing or damaged.
    """
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:  # Pillow's word for a broken PNG
        raise ArtifactError(
            f"{path}: the image cannot be read ({error}). Remove its folder to draw it again."
        ) from None
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
