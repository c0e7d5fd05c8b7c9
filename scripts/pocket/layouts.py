"""Renders what the plain data set lacks: two things in one image, small things anywhere, bare backgrounds."""

from __future__ import annotations

import json
import math
import random

import numpy as np
from PIL import Image

from scripts.pocket import BUILD, media
from scripts.pocket.captions import Scene
from scripts.pocket.data import designs
from scripts.pocket.world import BACKGROUNDS, EVERYTHING, FAMILIES, MEDIA

#: How many images of two things, of one small thing, and of nothing; and the seed.
SETS = {"layouts_test": (900, 300, 300, 11), "layouts_train": (9_000, 3_500, 1_500, 10)}
#: Least side of a thing on a canvas of 128 pixels: below it, nobody could name it.
LEAST = {"pixel art": 64, "watercolor": 54}
#: An empty scene shows no subject.
EMPTY = ""


def scene(kind: int, random_state: random.Random) -> Scene:
    """A random scene of two things (0), of one (1) or of none (2)."""
    medium = random_state.choice(MEDIA).name
    family = "" if medium == "ink" else random_state.choice(FAMILIES).name
    background = random_state.choice(list(BACKGROUNDS))
    first, second = random_state.sample([subject.name for subject in EVERYTHING], 2)
    if kind == 2:
        return Scene(EMPTY, medium, family, background)
    return Scene(first, medium, family, background, second if kind == 0 else "")


def places(count: int, least: int, random_state: random.Random) -> list[tuple[int, int, int]]:
    """Left, top and side of each thing on a canvas of 128 pixels; two may overlap at their edges."""
    if count < 2:
        side = random_state.randint(least, 100)
        return [(random_state.randint(0, 128 - side), random_state.randint(0, 128 - side), side)] * count
    angle, apart = random_state.uniform(0, 2 * math.pi), random_state.uniform(24, 34)
    if random_state.random() < 0.5:
        angle = random_state.choice((0, math.pi))  # side by side
    found = []
    for sign in (-1, 1):
        side = random_state.randint(max(50, least), 76)
        centre = [64 + sign * apart * f(angle) + random_state.uniform(-5, 5) for f in (math.cos, math.sin)]
        left, top = (round(max(0, min(128 - side, c - side / 2))) for c in centre)
        found.append((left, top, side))
    return found


def render(
    wanted: Scene, found: dict[tuple[str, str], list[Image.Image]], random_state: random.Random
) -> np.ndarray:
    """One image of the scene, bytes with shape (64, 64, 3)."""
    canvas = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    names = [name for name in (wanted.subject, wanted.second) if name]
    placed = places(len(names), LEAST.get(wanted.medium, 46), random_state)
    for name, (left, top, side) in zip(names, placed, strict=True):
        design = random_state.choice(found[name, wanted.family or "ink"])
        canvas.alpha_composite(design.resize((side, side), Image.Resampling.BILINEAR), (left, top))
    return media.apply(wanted.medium, canvas, wanted.background, random_state)


def build(name: str) -> None:
    """Renders one set to ``<build>/<name>_images.npy`` and ``<name>_scenes.json``, unless it is there."""
    if (BUILD / f"{name}_scenes.json").exists():
        return
    *counts, seed = SETS[name]
    random_state = random.Random(seed)
    found = designs(seed)
    wanted = [scene(kind, random_state) for kind, count in enumerate(counts) for _ in range(count)]
    np.save(BUILD / f"{name}_images.npy", np.stack([render(s, found, random_state) for s in wanted]))
    (BUILD / f"{name}_scenes.json").write_text(json.dumps([s.to_json() for s in wanted]))
