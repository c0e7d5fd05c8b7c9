"""Renders pocket's data set: images of subjects and figures in all media and families, with what each shows.

Usage: ``python -m scripts.pocket.data [--singles N] [--pairs N]``. Writes ``images.npy`` (N, 64, 64, 3)
bytes and ``scenes.json`` to the build folder, and the same for a test set drawn with another seed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from scripts.pocket import BUILD, icons, media
from scripts.pocket.captions import Scene
from scripts.pocket.figures import figure
from scripts.pocket.world import BACKGROUNDS, EVERYTHING, FAMILIES, FIGURES, MEDIA, NUDE, PACKAGES, SUBJECTS

FIGURE_WEIGHT = 4  # figures come in many poses, subjects in one design a family
POSES = 60


def designs(seed: int) -> dict[tuple[str, str], list[Image.Image]]:
    """Every subject's and figure's RGBA designs by (subject, family or ``"ink"``)."""
    random_state = random.Random(seed)
    folders = {look: icons.fetch(package, BUILD / "npm") for look, package in PACKAGES.items()}
    found: dict[tuple[str, str], list[Image.Image]] = {}
    for look, folder in folders.items():
        for subject in SUBJECTS:
            found[subject.name, look] = [icons.render(icons.svg(folder, subject.icon), 128)]
        for person in FIGURES:
            drawn = (figure(random_state, nude=person.name == NUDE, family=look) for _ in range(POSES))
            found[person.name, look] = [icons.render(document, 128) for document in drawn]
    return found


def _placed(
    design: Image.Image, centre: tuple[float, float], size: int
) -> tuple[Image.Image, tuple[int, int]]:
    corner = [max(0, min(128 - size, int(c - size / 2))) for c in centre]
    return design.resize((size, size), Image.Resampling.BILINEAR), (corner[0], corner[1])


def draw(
    scene: Scene, found: dict[tuple[str, str], list[Image.Image]], random_state: random.Random
) -> np.ndarray:
    """One image of the scene, bytes with shape (64, 64, 3); scale and shift vary, nothing is mirrored."""
    look = scene.family or "ink"
    jitter = lambda c: c + random_state.uniform(-5, 5)  # noqa: E731
    canvas = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
    if scene.second:
        placed = [(scene.subject, (33.0, jitter(64)), (58, 66)), (scene.second, (95.0, jitter(64)), (58, 66))]
    else:
        placed = [(scene.subject, (jitter(64), jitter(64)), (102, 124))]
    for name, centre, sizes in placed:
        design = random_state.choice(found[name, look])
        canvas.alpha_composite(*_placed(design, centre, random_state.randint(*sizes)))
    return media.apply(scene.medium, canvas, scene.background, random_state)


def scenes(singles: int, pairs: int, random_state: random.Random) -> Iterator[Scene]:
    """Every combination of subject, medium and family in turn, then random pairs."""
    looks = [
        (medium.name, "" if medium.name == "ink" else family.name) for medium in MEDIA for family in FAMILIES
    ]
    every = [
        (s.name, *look)
        for s in EVERYTHING
        for look in looks
        for _ in range(FIGURE_WEIGHT if s in FIGURES else 1)
    ]
    while singles > 0:
        random_state.shuffle(every)
        for subject, medium, family in every[:singles]:
            yield Scene(subject, medium, family, random_state.choice(list(BACKGROUNDS)))
        singles -= len(every)
    for _ in range(pairs):
        first, second = random_state.sample([s.name for s in EVERYTHING], 2)
        medium, family = random_state.choice(looks)
        yield Scene(first, medium, family, random_state.choice(list(BACKGROUNDS)), second)


def build(name: str, singles: int, pairs: int, seed: int) -> None:
    """Renders one split to ``<build>/<name>_images.npy`` and ``<name>_scenes.json``."""
    random_state = random.Random(seed)
    found = designs(seed)
    wanted = list(scenes(singles, pairs, random_state))
    unfinished = BUILD / f"{name}_images.npy.tmp"
    images = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(wanted), 64, 64, 3))
    for i, scene in enumerate(tqdm(wanted, desc=f"render {name}")):
        images[i] = draw(scene, found, random_state)
    images.flush()
    unfinished.replace(BUILD / f"{name}_images.npy")
    (BUILD / f"{name}_scenes.json").write_text(json.dumps([scene.to_json() for scene in wanted]))


def load(name: str) -> tuple[np.ndarray, list[Scene]]:
    """Images (memory-mapped) and scenes of one split."""
    records = json.loads((BUILD / f"{name}_scenes.json").read_text())
    return np.load(BUILD / f"{name}_images.npy", mmap_mode="r"), [Scene(**record) for record in records]


def main() -> None:
    """Renders the training and the test split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--singles", type=int, default=44_000)
    parser.add_argument("--pairs", type=int, default=3_000)
    arguments = parser.parse_args()
    Path(BUILD).mkdir(parents=True, exist_ok=True)
    build("test", 4_000, 0, seed=1)
    build("train", arguments.singles, arguments.pairs, seed=0)


if __name__ == "__main__":
    main()
