"""Selective Amnesia: its Fisher information, its loss, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import concept_set, configured, interrupted
from safetensors.torch import load_file

from unlearn.errors import ConfigError
from unlearn.methods.training.material.aligned import drawn
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.selective_amnesia import Held, SelectiveAmnesia
from unlearn.models.weights.parameters import matching, select


def small(*overrides: str) -> SelectiveAmnesia:
    base = (
        "steps=4",
        "batch_size=2",
        "images=3",
        "replay=4",
        "fisher_images=2",
        "fisher_timesteps=3",
        "sampler.steps=3",
        "optimizer.lr=1e-3",
    )
    return configured("selective_amnesia", *base, *overrides)


def replayed(model, method, context):
    return drawn(model, ["a cat", "a dog", "a house", "a cat"], "replay", method.sampler, context)


def test_fisher_is_the_mean_square_of_each_image_s_gradient_over_all_timesteps(tiny, context):
    """Against one timestep at a time."""
    method = small()
    kept = replayed(tiny, method, context)
    with select(tiny, ["cross_attention_kv"]) as selection:
        parameters = list(selection.parameters.values())
        found = method.fisher(tiny, selection, kept, context)
        expected = [torch.zeros_like(parameter) for parameter in parameters]
        for i in range(2):
            random = context.generator("selective_amnesia", "fisher", i)
            inside = torch.rand(3, generator=random)
            timesteps = ((torch.arange(3) + inside) * 1000 / 3).long()
            assert [int(t) * 3 // 1000 for t in timesteps] == [0, 1, 2]
            gradient = [torch.zeros_like(parameter) for parameter in parameters]
            for chunk in (timesteps[:2], timesteps[2:]):
                clean, sentences = kept.batch(torch.full((len(chunk),), i))
                noised = Noised.at(tiny, clean, chunk, random)
                for k in range(len(chunk)):
                    x, t = noised.latents[[k]], noised.timesteps[[k]]
                    error = (tiny.predict(x, t, sentences[[k]]) - noised.target[k]).square().mean()
                    each = torch.autograd.grad(1000 / 3 * error, parameters)
                    gradient = [a + b for a, b in zip(gradient, each, strict=True)]
            expected = [a + b.square() / 2 for a, b in zip(expected, gradient, strict=True)]
    for value, wanted in zip(found.values(), expected, strict=True):
        assert torch.allclose(value, wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))


def test_all_timesteps_are_each_taken_once(tiny, context, monkeypatch):
    """With as many as there are, it is the sum over all of them."""
    method = small("fisher_timesteps=1000", "fisher_images=1", "batch_size=250")
    seen = []

    def at(_model, clean, timesteps, _random):
        seen.extend(timesteps.tolist())
        return Noised(clean, timesteps, clean)

    kept = replayed(tiny, method, context)
    monkeypatch.setattr(Noised, "at", at)
    monkeypatch.setitem(vars(tiny), "predict", lambda latents, *_: latents * weight.sum())
    with select(tiny, ["unet.conv_in.bias"]) as selection:
        (weight,) = selection.parameters.values()
        method.fisher(tiny, selection, kept, context)
    assert seen == list(range(1000))


def test_the_loss_is_the_formula(tiny, context):
    method = small("replay_scale=0.5", "fisher_scale=3")
    kept = replayed(tiny, method, context)
    anchors = Anchors.draw(tiny, concept_set("church"), method.images, method.sampler, context)
    with select(tiny, ["cross_attention_kv"]) as selection:
        fisher = {name: torch.rand(p.shape) for name, p in selection.parameters.items()}
        held = Held.at(selection, fisher)
        assert held.distance() == 0
        for parameter in selection.parameters.values():
            parameter.data *= 1.1
        loss = method.loss(tiny, anchors, kept, held, 1, context)
        with torch.no_grad():
            random = context.generator("selective_amnesia", "step", 1)
            batch = anchors.batch(2, 1, context)
            noised = Noised.draw(tiny, batch.clean, random)
            chosen = shuffled(4, 2, 1, context, "selective_amnesia", "replay")
            clean, sentences = kept.batch(chosen)
            again = Noised.draw(tiny, clean, random)
            first = tiny.predict(noised.latents, noised.timesteps, batch.erased) - noised.target
            second = tiny.predict(again.latents, again.timesteps, sentences) - again.target
            pull = sum(
                (fisher[name] * (parameter - parameter / 1.1).square()).sum()
                for name, parameter in selection.parameters.items()
            )
    expected = first.square().mean() + 0.5 * second.square().mean() + 3 * pull
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_weights_that_matter_move_less(tiny, context, tmp_path):
    """The stronger the pull, the nearer to the original, where the Fisher information is large above all."""
    originals, moved = matching(tiny, "cross_attention_kv"), {}
    for scale in (0.0, 1e4):
        scratch = tmp_path / f"{scale}"
        scratch.mkdir()
        method = small(f"fisher_scale={scale}", "steps=8")
        method.parameters = ["cross_attention_kv"]
        erasure = method.erase(tiny, concept_set("church"), replace(context, scratch=scratch))
        fisher = load_file(scratch / "fisher.safetensors")
        moved[scale] = sum(
            float((fisher[name] * (weight - originals[name]).square()).sum())
            for name, weight in erasure.weights.items()
        )
    assert moved[1e4] < 0.5 * moved[0.0]


def test_no_forward_is_wasted(tiny, context):
    """Two a step of each image, one for each timestep of the Fisher information, two for each step's pair."""
    method = small()
    before = tiny.forwards
    method.erase(tiny, concept_set("church"), context)
    assert tiny.forwards - before == (3 + 4) * 3 * 2 + 2 * 3 + 2 * 4 * 2


def test_replayed_sentences_do_not_name_the_concept(tiny, context, monkeypatch):
    asked = []

    def stop(_model, sentences, *_):
        asked.extend(sentences)
        raise KeyboardInterrupt

    monkeypatch.setattr("unlearn.methods.training.selective_amnesia.drawn", stop)
    with pytest.raises(KeyboardInterrupt):
        small("replay=60").erase(tiny, concept_set("cat", retain=["a house cat", "house"]), context)
    assert len(asked) == 60
    assert not any("cat" in text.split() for text in asked)
    assert len(set(asked)) > 20


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    method, concepts = small("steps=5"), concept_set("church", "cat")
    method.parameters = ["cross_attention_kv"]
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 3, until=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fisher_images=5", "fisher_images: there are 4 images, got 5"),
        ("fisher_scale=-1", "fisher_scale: must be a number from 0 up"),
        ("replay=0", "replay: must be at least 1"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)


def test_more_timesteps_than_there_are_are_refused(tiny, context):
    with pytest.raises(ConfigError, match=r"method.fisher_timesteps: there are 1000, got 1001"):
        small("fisher_timesteps=1001").erase(tiny, concept_set("church"), context)
