"""EraseDiff: what a step follows, and what it costs."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, interrupted

from unlearn.methods.training.erasediff import EraseDiff
from unlearn.methods.training.material.relabelling import Relabelling, losses
from unlearn.models.weights.parameters import select


def small(*overrides: str) -> EraseDiff:
    base = ("steps=4", "batch_size=2", "images=4", "sampler.steps=3", "optimizer.lr=1e-3")
    return configured("erasediff", *base, *overrides)


def found(model, method, context):
    """What a step follows, and the gradients of both losses apart."""
    images = Relabelling.draw(model, concept_set("church"), method.images, method.sampler, context)
    with select(model, ["cross_attention_kv"]) as selection:
        parameters = list(selection.parameters.values())
        step = method.composed(model, selection, images, 2, context)
        tasks = images.tasks(model, method.batch_size, 2, context.generator("erasediff", "step", 2), context)
        apart = [torch.autograd.grad(losses(model, task)[0], parameters) for task in tasks]
    return step, *apart


def test_a_constant_weight(tiny, context):
    step, g, h = found(tiny, small("weight=0.7"), context)
    for followed, a, b in zip(step.gradients, g, h, strict=True):
        assert torch.allclose(followed, b + 0.7 * a, rtol=1e-3, atol=1e-7)
    assert step.values["loss"] == pytest.approx(
        step.values["retaining"] + 0.7 * step.values["forgetting"], rel=1e-6
    )


def test_a_weight_that_falls_as_the_gradients_agree(tiny, context):
    step, g, h = found(tiny, small("weight=null", "eta=1.5"), context)
    flat = [torch.cat([each.flatten() for each in gradients]) for gradients in (g, h)]
    weight = 1.5 - float(torch.cosine_similarity(flat[0], flat[1], dim=0))
    assert step.values["weight"] == pytest.approx(weight, abs=1e-4)
    for followed, a, b in zip(step.gradients, g, h, strict=True):
        assert torch.allclose(followed, b + weight * a, rtol=1e-3, atol=1e-7)


def test_gradients_that_agree_enough_are_the_retaining_one(tiny, context, monkeypatch):
    monkeypatch.setattr("unlearn.methods.training.surgery.Conflict.cosine", 0.2)
    step, _, h = found(tiny, small("weight=null", "eta=0.1"), context)
    assert step.values["weight"] == 0
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-8) for a, b in zip(step.gradients, h, strict=True))


@pytest.mark.parametrize("weight", ["1", "null"])
def test_no_forward_is_wasted(weight, tiny, context):
    """Two a step of each image, and three for each pair trained on."""
    method = small(f"weight={weight}")
    before = tiny.forwards
    method.erase(tiny, concept_set("church"), context)
    assert tiny.forwards - before == 2 * 4 * 3 * 2 + 3 * 4 * 2


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    method, concepts = small("steps=5", "weight=null"), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 3, until=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("weight=0", "weight: must be a number above 0"),
        ("eta=-1", "eta: must be a number above 0"),
        ("images=0", "images: must be at least 1"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
