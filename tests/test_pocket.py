"""The model that ships: whole, small, open to plain diffusers, and worded for its own judge."""

import json
from pathlib import Path

import pytest
import torch

from unlearn.concepts.concept import read_prompts
from unlearn.detectors.pocket import PocketClip, PocketJudge
from unlearn.models.families.sd import StableDiffusion
from unlearn.models.sampling import Sampler, draw

FOLDER = Path(__file__).parent.parent / "unlearn" / "data" / "pocket"
SAMPLER = Sampler(scheduler="ddim", steps=3, guidance=4.0, resolution=64, batch_size=2)
CONCEPTS = sorted(path.stem for path in FOLDER.parent.joinpath("prompts").glob("*.csv"))


@pytest.fixture(scope="module")
def judge():
    return PocketJudge(threshold=0.5, device="cpu")


@pytest.fixture(scope="module")
def clip():
    return PocketClip(others=["a car", "a sun"], template="a drawing of {}", threshold=0.5, device="cpu")


def test_it_stays_small():
    sizes = [file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()]
    assert max(sizes) < 16e6
    assert sum(sizes) < 32e6


def test_plain_diffusers_draws_the_same_images():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(FOLDER)
    pipeline.set_progress_bar_config(disable=True)
    assert {
        p.dtype for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in part.parameters()
    } == {torch.float32}
    prompts, seeds = ["a drawing of a church", "a neon sign of a cat"], [3, 4]
    theirs = pipeline(
        prompts,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
    ).images
    model = StableDiffusion(
        world="pocket",
        source="package:pocket",
        revision=None,
        dtype="float32",
        clip="pocket_clip",
        inception="pocket_clip",
        sampler=SAMPLER,
    ).load("cpu")
    ours = torch.cat(list(draw(model, prompts, seeds, SAMPLER)))
    assert torch.equal(ours, theirs)


def test_the_judge_names_what_it_was_trained_on(judge):
    assert {"church", "nude", "clothed", "neon", "fluent"} <= set(judge.labels)
    assert "none of these" not in judge.labels
    scores = judge.scores(torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert scores.shape == (3, len(judge.labels))
    subjects = [i for i, label in enumerate(judge.labels) if label in judge.heads["subject"]]
    assert (scores[:, subjects] < judge.threshold).all(), "noise must show no subject"


@pytest.mark.parametrize("concept", CONCEPTS)
def test_the_judge_knows_every_label_that_prompts_ask_for(concept, judge):
    asked = {shows for rows in read_prompts(concept).values() for _, _, shows in rows}
    assert asked <= set(judge.labels)


def test_the_clip_has_features_of_real_renders(clip):
    reference = clip.reference()
    assert reference.shape[0] >= 1000
    features = clip.features(torch.rand(2, 3, 64, 64))
    assert features.shape[1] == reference.shape[1] == clip.text_features(["a church"]).shape[1]


def test_the_card_names_every_licence():
    card = (FOLDER / "MODEL_CARD.md").read_text()
    assert {"Apache-2.0", "MIT"} <= set(card.replace("|", " ").split())
    assert "never a result on Stable Diffusion" in " ".join(card.split())


def test_older_readers_find_their_files():
    assert {"vocab.json", "merges.txt", "tokenizer.json"} <= {
        file.name for file in (FOLDER / "tokenizer").iterdir()
    }
    assert json.loads((FOLDER / "text_encoder" / "config.json").read_text())["dtype"] == "float32"
