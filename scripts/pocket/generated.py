"""Images that the packaged model draws, whole and with damaged weights, and what was asked of it.

An erased model is a damaged one: the judge is trained on such images and measured on others.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from scripts.pocket import BUILD
from scripts.pocket.captions import Scene, caption
from scripts.pocket.world import BACKGROUNDS, EVERYTHING, FAMILIES, HELD_OUT, MEDIA
from unlearn.models.families.sd import StableDiffusion
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler, draw

SAMPLER = Sampler(scheduler="ddim", steps=20, guidance=4.0, resolution=64, batch_size=32)

#: What is drawn: images, images for each damage, the largest damage, seed.
SETS = {
    "generated_test": (600, 600, 0.0, 51_000_000),
    "weights_test": (600, 50, 0.1, 52_000_000),
    "generated_train": (640, 40, 0.1, 50_000_000),
}


def packaged() -> DiffusionModel:
    """The model that ships."""
    return StableDiffusion(
        world="pocket", source="package:pocket", revision=None, dtype="float32",
        clip="pocket_clip", inception="pocket_clip", sampler=SAMPLER,
    ).load("cpu")  # fmt: skip


def damage(model: DiffusionModel, whole: dict[str, torch.Tensor], strength: float, seed: int) -> None:
    """Adds noise to each tensor of the denoiser: ``strength`` times the tensor's own deviation."""
    generator = torch.Generator().manual_seed(seed)
    noisy = {
        name: value + strength * value.std(correction=0) * torch.randn(value.shape, generator=generator)
        for name, value in whole.items()
    }
    model.parts["unet"].load_state_dict(noisy)


def build(name: str) -> None:
    """Draws one set to ``<build>/<name>_images.npy`` and ``<name>_scenes.json``, unless it is there."""
    if (BUILD / f"{name}_scenes.json").exists():
        return
    count, each, strength, seed = SETS[name]
    random_state = random.Random(seed)
    model = packaged()
    whole = {key: value.clone() for key, value in model.parts["unet"].state_dict().items()}
    scenes = [_scene(random_state) for _ in range(count)]
    images = []
    for start in tqdm(range(0, count, each), desc=f"draw {name}"):
        # Half as strong, as strong, half as strong, ... where one set has many; evenly spread for training.
        share = random_state.random() if name.endswith("train") else (1 + start // each % 2) / 2
        damage(model, whole, strength * share, seed + start)
        prompts = [
            caption(scene, random_state, wording=0, style=0, name_family=True)
            for scene in scenes[start : start + each]
        ]
        sampler = replace(SAMPLER, steps=10) if name.endswith("train") else SAMPLER
        drawn = torch.cat(list(draw(model, prompts, list(range(seed + start, seed + start + each)), sampler)))
        images.append((drawn * 255).round().byte().permute(0, 2, 3, 1).numpy())
    np.save(BUILD / f"{name}_images.npy", np.concatenate(images))
    (BUILD / f"{name}_scenes.json").write_text(json.dumps([scene.to_json() for scene in scenes]))


def _scene(random_state: random.Random) -> Scene:
    while True:
        subject, medium = random_state.choice(EVERYTHING).name, random_state.choice(MEDIA).name
        if (subject, medium) not in HELD_OUT:
            break
    family = "" if medium == "ink" else random_state.choice(FAMILIES).name
    return Scene(subject, medium, family, random_state.choice(list(BACKGROUNDS)))


def main() -> None:
    """Draws all sets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=SETS, default=list(SETS))
    torch.set_num_threads(1)
    for name in parser.parse_args().sets:
        build(name)


if __name__ == "__main__":
    main()
