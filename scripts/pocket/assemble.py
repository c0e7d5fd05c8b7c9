"""Puts the trained parts together as the diffusers folder that ships: ``unlearn/data/pocket``.

Usage: ``python -m scripts.pocket.assemble [--detectors]``. ``--detectors`` puts in the judge and the scoring
CLIP that were trained, and leaves the rest. Weights are stored in float16; the configs name float32, so that
plain diffusers loads all parts in one precision. The model card is written by hand and left alone, and so are
the first judge and the judges' cards.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from scripts.pocket import BUILD, data
from scripts.pocket.training import pixels
from scripts.pocket.unet import BETAS
from unlearn.detectors.pocket import PocketClip
from unlearn.models.erasure import Erasure
from unlearn.models.families.sd import StableDiffusion
from unlearn.models.files.export import export
from unlearn.models.sampling import Sampler

TARGET = Path("unlearn/data/pocket")
REFERENCES = 1_000
KEPT = (
    "MODEL_CARD.md", "judge/heads.json", "judge/judge.safetensors", "judge/card_1.json", "judge/card_2.json",
)  # fmt: skip


def assemble(folder: Path) -> None:
    """Writes the pipeline from the newest checkpoints, through plain diffusers and our own export."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(BUILD / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(BUILD / "text_start", dtype=torch.float32),
        tokenizer=CLIPTokenizer.from_pretrained(BUILD / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(BUILD / "unet"),
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=BETAS[0],
            beta_end=BETAS[1],
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    plain = BUILD / "pipeline"
    shutil.rmtree(plain, ignore_errors=True)
    pipeline.save_pretrained(plain)
    sampler = Sampler(scheduler="ddim", steps=20, guidance=4.0, resolution=64, batch_size=32)
    shared = {
        "world": "pocket",
        "revision": None,
        "clip": "pocket_clip",
        "inception": "pocket_clip",
        "sampler": sampler,
    }
    model = StableDiffusion(source=str(plain), dtype="float16", **shared).load("cpu")
    shutil.rmtree(folder, ignore_errors=True)
    export(model, Erasure(), folder)
    amend(folder / "text_encoder" / "config.json", "dtype", "float32")
    # As in Stable Diffusion's own config: PNDM without the Runge-Kutta steps at its start.
    amend(folder / "scheduler" / "scheduler_config.json", "skip_prk_steps", True)


def amend(file: Path, key: str, value: object) -> None:
    """Sets one key of a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}, indent=2))


def detectors(folder: Path) -> None:
    """Adds the judge, the scoring CLIP and the features of real renders."""
    for part in ("judge", "clip"):
        if (BUILD / part).exists():
            shutil.copytree(BUILD / part, folder / part, dirs_exist_ok=True)
            for file in (BUILD / part).glob("*.safetensors"):
                halves = {k: v.half() if v.is_floating_point() else v for k, v in load_file(file).items()}
                save_file(halves, folder / part / file.name)


def references(folder: Path) -> None:
    """Features of single-subject renders of the test split, in the scoring CLIP's space."""
    images, scenes = data.load("test")
    single = [i for i, scene in enumerate(scenes) if scene.subject != "nude person"][:REFERENCES]
    clip = PocketClip(others=[], template="{}", threshold=0.5, device="cpu")
    features = clip.features((pixels(images[single]) + 1) / 2)
    save_file({"features": features.half()}, folder / "clip" / "reference.safetensors")


def main() -> None:
    """Assembles all parts that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detectors", action="store_true")
    if parser.parse_args().detectors:
        detectors(TARGET)
        return
    fresh = BUILD / "assembled"
    assemble(fresh)
    detectors(fresh)
    for kept in KEPT:
        if (TARGET / kept).exists():
            (fresh / kept).parent.mkdir(exist_ok=True)
            shutil.copy(TARGET / kept, fresh / kept)
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(fresh, TARGET)
    if (TARGET / "clip" / "clip.safetensors").exists():
        references(TARGET)
    sizes = {file: file.stat().st_size for file in TARGET.rglob("*") if file.is_file()}
    for file, size in sorted(sizes.items()):
        print(f"{size / 1e6:8.3f} MB  {file.relative_to(TARGET)}")
    print(f"{sum(sizes.values()) / 1e6:8.3f} MB  in all")


if __name__ == "__main__":
    main()
