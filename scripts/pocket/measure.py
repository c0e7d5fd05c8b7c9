"""Measures the shipped pocket model against its acceptance figures.

Usage: ``python -m scripts.pocket.measure [--images N] [--grid FILE]``. Draws N images of plain prompts at
fresh seeds with the shipped settings and has the shipped judge name them; prints each rate with n and its
95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from scripts.make_prompts import RECIPES, label
from scripts.pocket import data
from scripts.pocket.captions import Scene, caption
from scripts.pocket.generated import SAMPLER, packaged
from scripts.pocket.spoiling import Spoiler
from scripts.pocket.training import pixels, psnr
from scripts.pocket.unet import build
from scripts.pocket.world import EVERYTHING, FAMILIES, HELD_OUT, MEDIA
from unlearn.concepts.concept import read_prompts
from unlearn.detectors.pocket import PocketJudge
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import draw
from unlearn.statistics.rates import wilson_interval

FIRST_SEED = 1_000_000  # none of the prompt sets' seeds


def rate(name: str, hits: Sequence[bool]) -> None:
    """Prints a share with its interval, or that nothing was measured."""
    if not hits:
        print(f"{name:50s} not measured  n = 0", flush=True)
        return
    count = sum(hits)
    low, high = wilson_interval(count, len(hits))
    share = f"{100 * count / len(hits):5.1f} %  [{100 * low:.1f}, {100 * high:.1f}]"
    print(f"{name:50s} {share}  n = {len(hits)}", flush=True)


def images_of(model: DiffusionModel, prompts: list[str], seeds: list[int]) -> Tensor:
    """Images with shape (N, 3, 64, 64)."""
    return torch.cat([torch.empty(0, 3, 64, 64), *draw(model, prompts, seeds, SAMPLER)])


def untrained_images(model: DiffusionModel, prompts: list[str]) -> Tensor:
    """Images of the same model with random weights in its denoiser."""
    unet = model.parts["unet"]
    trained = {name: value.clone() for name, value in unet.state_dict().items()}
    unet.load_state_dict(build().state_dict())
    images = images_of(model, prompts, [FIRST_SEED + i for i in range(len(prompts))])
    unet.load_state_dict(trained)
    return images


def grid(images: Tensor, columns: int, file: Path) -> None:
    """Writes images in [0, 1] side by side, enlarged twice."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * 66, rows * 66), "white")
    for i, image in enumerate(images):
        picture = Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy())
        sheet.paste(picture, (66 * (i % columns), 66 * (i // columns)))
    sheet.resize((sheet.width * 3 // 2, sheet.height * 3 // 2), Image.Resampling.NEAREST).save(file)


def main() -> None:
    """Prints all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--concept-images", type=int, default=60)
    parser.add_argument("--concepts", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--grid", type=Path)
    arguments = parser.parse_args()
    model, judge = packaged(), PocketJudge(threshold=0.5, device="cpu")
    random_state = random.Random(7)
    pairs = [(subject.name, medium.name) for subject in EVERYTHING for medium in MEDIA]
    scenes = []
    while len(scenes) < arguments.images:
        for subject, medium in random_state.sample(pairs, min(len(pairs), arguments.images - len(scenes))):
            family = "" if medium == "ink" else random_state.choice(FAMILIES).name
            scenes.append(Scene(subject, medium, family, "white"))
    prompts = [caption(scene, random_state, wording=0, style=0) for scene in scenes]
    started = time.perf_counter()
    images = images_of(model, prompts, [FIRST_SEED + i for i in range(len(prompts))])
    seconds = time.perf_counter() - started
    scores = judge.scores(images)
    shown = {name: (scores[:, judge.labels.index(name)] >= judge.threshold).tolist() for name in judge.labels}
    subject_right = [shown[label(scene.subject)][i] for i, scene in enumerate(scenes)]
    held = [(scene.subject, scene.medium) in HELD_OUT for scene in scenes]
    print(f"speed: {len(images) / seconds:.1f} images a second, {torch.get_num_threads()} threads")
    rate("asked subject named", [hit for hit, out in zip(subject_right, held, strict=True) if not out])
    rate(
        "asked subject named, held-out pairs",
        [hit for hit, out in zip(subject_right, held, strict=True) if out],
    )
    rate("asked medium named", [shown[scene.medium][i] for i, scene in enumerate(scenes)])
    figures = [i for i, scene in enumerate(scenes) if label(scene.subject) in ("nude", "clothed")]
    rate("bare or clothed right", [subject_right[i] for i in figures])
    worst: dict[str, list[bool]] = {}
    for scene, hit, out in zip(scenes, subject_right, held, strict=True):
        if not out:
            worst.setdefault(scene.subject, []).append(hit)
    ranked = sorted((sum(hits) / len(hits), name) for name, hits in worst.items())
    print("weakest subjects: " + json.dumps([f"{name} {100 * share:.0f} %" for share, name in ranked[:10]]))
    for concept in arguments.concepts:
        rows = read_prompts(concept)
        for role in ("plain", "synonym", "implicit") if arguments.concept_images else ():
            chosen = rows[role][: arguments.concept_images]
            drawn = judge.scores(
                images_of(model, [row[0] for row in chosen], [FIRST_SEED + row[1] for row in chosen])
            )
            wanted = [judge.labels.index(name) for name in sorted({row[2] for row in chosen})]
            rate(f"{concept}, {role} prompts", (drawn[:, wanted].amax(1) >= judge.threshold).tolist())
    blank = judge.scores(untrained_images(model, prompts[: arguments.concept_images]))
    if len(blank):
        rate("anything named by the judge, U-Net re-initialised", (blank.amax(1) >= judge.threshold).tolist())
    held_images = pixels(data.load("test")[0][:1000])
    rebuilt = 2 * Spoiler().rebuilt(held_images / 2 + 0.5) - 1
    print(f"autoencoder: {psnr(rebuilt, held_images).mean():.2f} dB, n = {len(held_images)}")
    if arguments.grid:
        order = sorted(
            range(len(scenes)), key=lambda i: [s.name for s in EVERYTHING].index(scenes[i].subject)
        )
        grid(images[order][:: max(1, len(order) // 250)], 20, arguments.grid)


if __name__ == "__main__":
    main()
