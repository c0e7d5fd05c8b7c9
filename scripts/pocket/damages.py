"""Damages that leave an image readable: what erasing does to images, and a judge has to see through.

Images are in [0, 1] with shape (B, 3, 64, 64); strengths are numbers, or tensors with one value an image.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 64
#: The luminance table of JPEG (ITU-T T.81, annex K).
_JPEG = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92], [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)  # fmt: skip
_CORNERS = (slice(None), slice(None), (0, 0, -1, -1), (0, -1, 0, -1))


def column(strength: Tensor | float) -> Tensor:
    """A strength that multiplies images."""
    return torch.as_tensor(strength, dtype=torch.float32).view(-1, 1, 1, 1)


def background(images: Tensor) -> Tensor:
    """The colour of the corners, their median, with shape (B, 3, 1, 1)."""
    return images[_CORNERS].median(2).values[:, :, None, None]


def noise(images: Tensor, deviation: Tensor | float, generator: torch.Generator) -> Tensor:
    """Gaussian noise on every pixel."""
    drawn = torch.randn(images.shape, generator=generator)
    return (images + column(deviation) * drawn).clamp(0, 1)


def blur(images: Tensor, deviation: Tensor | float) -> Tensor:
    """Gaussian blur, with a deviation in pixels."""
    places = torch.arange(-4.0, 5)
    weights = torch.exp(-(places**2) / (2 * torch.as_tensor(deviation).view(-1, 1).clamp(min=0.05) ** 2))
    weights = (weights / weights.sum(1, keepdim=True)).expand(len(images), -1).repeat_interleave(3, 0)
    flat = F.pad(images, (4, 4, 4, 4), mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, weights[:, None, None], groups=len(weights))
    flat = F.conv2d(flat, weights[:, None, :, None], groups=len(weights))
    return flat[0].view_as(images)


def brightness(images: Tensor, factor: Tensor | float) -> Tensor:
    """All values times a factor."""
    return (images * column(factor)).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor | float) -> Tensor:
    """Distance from the image's mean grey times a factor."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + (images - mean) * column(factor)).clamp(0, 1)


def moved(images: Tensor, zoom: Tensor, right: Tensor, down: Tensor, *, edges: bool) -> Tensor:
    """Enlarged about the centre, then shifted by pixels.

    Arguments:
        images: With shape (B, 3, 64, 64).
        zoom: Above 1 crops.
        right, down: Pixels.
        edges: Whether the edge's pixels fill what comes in, or else the background's colour.
    """
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / zoom
    theta[:, 0, 2], theta[:, 1, 2] = -right * 2 / SIDE / zoom, -down * 2 / SIDE / zoom
    where = F.affine_grid(theta, list(images.shape), align_corners=False)
    ground = torch.zeros(1) if edges else background(images)
    mode = "border" if edges else "zeros"
    return (F.grid_sample(images - ground, where, padding_mode=mode, align_corners=False) + ground).clamp(
        0, 1
    )


def blended(images: Tensor, others: Tensor, share: Tensor | float) -> Tensor:
    """Half-erased: a share of each image is another image, or a colour."""
    return images + column(share) * (others - images)


def quantised(images: Tensor, levels: Tensor | float) -> Tensor:
    """Few values in each channel."""
    steps = column(levels) - 1
    return (images * steps).round() / steps


def compressed(images: Tensor, coarseness: Tensor | float) -> Tensor:
    """What JPEG leaves of each channel; a coarseness of 1 is its quality 50, 5 its quality 10."""
    k = torch.arange(8.0)
    basis = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) * 0.5
    basis[0] = math.sqrt(1 / 8)
    tiles = images.unflatten(3, (8, 8)).unflatten(2, (8, 8)).transpose(3, 4) * 255 - 128
    table = _JPEG * column(coarseness)[..., None, None]
    kept = ((basis @ tiles @ basis.T) / table).round() * table
    back = basis.T @ kept @ basis
    return ((back + 128) / 255).clamp(0, 1).transpose(3, 4).reshape(images.shape)
