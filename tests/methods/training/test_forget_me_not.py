"""Forget-Me-Not: whose attention is counted, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from method_cases import concept_set, configured, interrupted

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.training import forget_me_not
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.models.weights.attention import recorded
from unlearn.models.weights.parameters import select


def small(*overrides: str) -> forget_me_not.ForgetMeNot:
    base = ("steps=4", "batch_size=2", "images=4", "sampler.steps=3", "optimizer.lr=1e-3")
    return configured("forget_me_not", *base, *overrides)


def worded(*phrases: str, sentences=("a photo of {a}", "{a} beside a house")) -> ConceptSet:
    own = concept_set("church").erase["church"]
    return ConceptSet(erase={"church": replace(own, phrases=list(phrases), templates=list(sentences))})


@torch.no_grad()
def test_each_image_of_a_batch_has_its_own_tokens(tiny):
    """Phrases of different lengths at different places: as if each were alone."""
    prompts = tiny.encode(["a photo of a church", "a garbage truck beside a house"])
    tokens = torch.zeros(2, tiny.max_tokens, dtype=torch.bool)
    tokens[0, 5], tokens[1, [2, 3]] = True, True
    latents = torch.randn(2, *tiny.latent_shape(32), generator=torch.Generator().manual_seed(0))
    with recorded(tiny) as together:
        tiny.predict(latents, torch.tensor([100, 700]), prompts)
    squares = 0.0
    for i, t in enumerate((100, 700)):
        with recorded(tiny) as maps:
            tiny.predict(latents[i : i + 1], torch.tensor(t), prompts[[i]])
        squares += sum(float(each[0, :, :, tokens[i]].square().sum()) for each in maps)
    assert forget_me_not.attended(together, tokens).item() == pytest.approx(math.sqrt(squares), rel=1e-5)
    swapped = forget_me_not.attended(together, tokens.flip(0)).item()
    assert swapped != pytest.approx(math.sqrt(squares), rel=1e-3)


@pytest.mark.parametrize(("ends", "counting"), [("none", 0), ("first", 1), ("all", None)])
def test_the_phrase_counts_and_its_end(ends, counting, tiny):
    method = small(f"ends={ends}")
    concepts = worded("church", "garbage truck")
    sentences, tokens = method.sentences(tiny, concepts)
    assert sentences == [
        "a photo of a church",
        "a photo of a garbage truck",
        "a church beside a house",
        "a garbage truck beside a house",
    ]
    for sentence, own in zip(sentences, tokens, strict=True):
        phrase = "church" if "church" in sentence else "garbage truck"
        ids = tiny.tokenize([sentence, phrase]).tolist()
        end = ids[0].index(tiny.tokenizer.eos_token_id)
        said = [ids[0][i] for i in own.nonzero().flatten().tolist() if i < end]
        assert said == ids[1][1 : ids[1].index(tiny.tokenizer.eos_token_id)]
        after = own[end:]
        assert int(after.sum()) == (len(after) if counting is None else counting)
        assert bool(after[0]) == (ends != "none")


def test_the_step_follows_the_norm_of_its_own_images(tiny, context):
    method = small()
    concepts = worded("church", "garbage truck")
    sentences, tokens = method.sentences(tiny, concepts)
    images = forget_me_not.drawn(tiny, sentences, "forget", method.sampler, context)
    with select(tiny, ["unet.*attn2.to_k.*"]) as selection:
        loss = method.loss(tiny, images, tokens, 1, context)
        gradients = torch.autograd.grad(loss, list(selection.parameters.values()))
        chosen = shuffled(4, 2, 1, context, "forget_me_not")
        noised = Noised.draw(tiny, images.clean[chosen], context.generator("forget_me_not", "step", 1))
        total = 0
        for i in range(2):
            with recorded(tiny) as maps:
                prompt = tiny.encode([sentences[chosen[i]]])
                tiny.predict(noised.latents[i : i + 1], noised.timesteps[i : i + 1], prompt)
            total = total + sum(each[0, :, :, tokens[chosen[i]]].square().sum() for each in maps)
        expected = torch.autograd.grad(total.sqrt(), list(selection.parameters.values()))
    assert loss.item() == pytest.approx(math.sqrt(total.item()), rel=1e-4)
    for found, wanted in zip(gradients, expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)


def test_attention_to_the_concept_falls(tiny, context):
    history = small("steps=20").erase(tiny, concept_set("church"), context).history
    assert sum(h["loss"] for h in history[-4:]) < 0.9 * sum(h["loss"] for h in history[:4])


def test_no_forward_is_wasted(tiny, context):
    method = small()
    before = tiny.forwards
    method.erase(tiny, concept_set("church"), context)
    assert tiny.forwards - before == 4 * 3 * 2 + 4 * 2


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    method, concepts = small("steps=5"), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 3, until=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ends=firsts", "ends: Unknown ends 'firsts'. Did you mean 'first'"),
        ("images=0", "images: must be at least 1"),
        ("steps=0", "steps: must be at least 1"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
