"""The five media as image processing: an RGBA design of 128 pixels becomes an RGB image of 64.

Images here are float arrays with shape (64, 64, 3) and values in [0, 255].
"""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from scripts.pocket.world import BACKGROUNDS

Array = NDArray[np.float32]
_PAPER = np.random.default_rng(0).normal(size=(8, 64, 64)).astype(np.float32)


def _blur(image: Array, radius: float) -> Array:
    pixels = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    return np.asarray(pixels.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32)


def _flat(rgba: Image.Image, background: Array) -> tuple[Array, Array]:
    small = np.asarray(rgba.resize((64, 64), Image.Resampling.BOX), dtype=np.float32)
    alpha = small[..., 3:] / 255
    return small[..., :3] * alpha + background * (1 - alpha), alpha


def _pixel_art(rgba: Image.Image, background: Array) -> Array:
    coarse = np.asarray(rgba.resize((16, 16), Image.Resampling.BOX), dtype=np.float32)
    blocks = np.where(coarse[..., 3:] > 115, coarse[..., :3], background)
    return np.repeat(np.repeat((blocks / 36).round() * 36, 4, 0), 4, 1)


def _neon(rgba: Image.Image) -> Array:
    image, _ = _flat(rgba, np.full(3, 12, np.float32))
    vertical, horizontal = np.gradient(image, axis=(0, 1))
    edges = (np.sqrt((horizontal**2 + vertical**2).max(-1)) / 45).clip(0, 1)[..., None]
    colour = _blur(image, 2)
    colour = colour - colour.min(-1, keepdims=True) * 0.8
    colour = colour / (colour.max(-1, keepdims=True) + 1e-3) * 255
    return np.array([14, 8, 34], np.float32) + colour * edges * 0.95 + _blur(colour * edges, 2.5) * 0.9


def _watercolor(rgba: Image.Image, background: str, random_state: random.Random) -> Array:
    image, alpha = _flat(rgba, np.full(3, 252, np.float32))
    smooth = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.MedianFilter(5))
    pigment = _blur(np.asarray(smooth, dtype=np.float32), 0.9)
    rim = _blur(alpha[..., 0] * 255, 1.6) / 255
    pigment = 255 - (255 - pigment) * (0.62 + 0.3 * (rim * (1 - rim) * 4))[..., None]
    paper = np.array(BACKGROUNDS[background], np.float32) * 0.45 + 250 * 0.55
    if background == "white":
        paper = np.array([250, 248, 240], np.float32)
    grain = _blur(_PAPER[random_state.randrange(len(_PAPER))] * 60 + 128, 1.8) - 128
    return pigment * paper / 252 + grain[..., None] * 0.22


def apply(medium: str, rgba: Image.Image, background: str, random_state: random.Random) -> NDArray[np.uint8]:
    """The design in one medium on a named background, as bytes with shape (64, 64, 3)."""
    plain = np.array(BACKGROUNDS[background], np.float32) + np.float32(random_state.uniform(-6, 6))
    match medium:
        case "drawing" | "ink":
            image, _ = _flat(rgba, plain)
        case "pixel art":
            image = _pixel_art(rgba, plain)
        case "neon":
            image = _neon(rgba)
        case "watercolor":
            image = _watercolor(rgba, background, random_state)
        case _:
            raise ValueError(f"unknown medium {medium!r}")
    return image.clip(0, 255).astype(np.uint8)
