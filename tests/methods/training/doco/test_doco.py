"""DoCo: who learns when, from what, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from method_cases import concept_set, configured, interrupted
from tiny_checkpoint import tiny_settings, write_tiny

from unlearn.errors import ConfigError
from unlearn.methods.training.doco import doco
from unlearn.methods.training.doco.discriminator import Opponent
from unlearn.methods.training.doco.predicted import Predicted
from unlearn.methods.training.loop import fit
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised
from unlearn.models.start_token import start_token_detached
from unlearn.models.weights.parameters import matching, select


def small(*overrides: str, name: str = "doco") -> doco.DoCo:
    base = (
        "steps=6",
        "warmup=2",
        "batch_size=2",
        "images=4",
        "draws=2",
        "optimizer.lr=1e-3",
        "sampler.steps=3",
    )
    return configured(name, *base, *overrides)


def begun(model, method, context) -> tuple[Predicted, Opponent]:
    anchors = Anchors.draw(model, concept_set("church"), method.images, method.sampler, context)
    predicted = Predicted.draw(model, anchors, 2 * method.images, 3, context)
    return predicted, Opponent.begin(anchors.images, 1e-3, model.device, context)


def test_only_the_discriminator_learns_in_the_warm_up(tiny, context):
    method = small("warmup=5")
    predicted, opponent = begun(tiny, method, context)
    before = {name: value.clone() for name, value in opponent.network.state_dict().items()}
    with select(tiny, method.parameters) as selection:
        originals = {name: value.detach().clone() for name, value in selection.parameters.items()}

        def log(_values, step):
            if step == 4:
                assert all(
                    torch.equal(value, originals[name]) for name, value in selection.parameters.items()
                )
            elif step == 5:
                assert not any(
                    torch.equal(value, originals[name]) for name, value in selection.parameters.items()
                )

        own = replace(context, log=log)
        fit(
            selection,
            lambda step: method.play(tiny, selection, predicted, opponent, step, context),
            6,
            method.optimizer,
            own,
        )
    after = opponent.network.state_dict()
    assert all(not torch.equal(after[name], value) for name, value in before.items())


def test_the_denoiser_leaves_no_gradient_in_the_discriminator(tiny, context, monkeypatch):
    method = small("warmup=0")
    predicted, opponent = begun(tiny, method, context)
    monkeypatch.setattr(Opponent, "learn", lambda *_: {"loss": 0.0})
    with select(tiny, method.parameters) as selection:
        step = method.play(tiny, selection, predicted, opponent, 0, context)
    assert all(gradient.abs().max() > 0 for gradient in step.gradients)
    assert all(parameter.grad is None for parameter in opponent.network.parameters())
    assert all(parameter.grad is None for _, parameter in tiny.named_parameters())


@pytest.mark.parametrize(("name", "tainted"), [("doco", False), ("doco_released", True)])
def test_the_discriminator_is_tainted_after_the_warm_up_only_and_as_released_only(
    name, tainted, tiny, context, monkeypatch
):
    seen = []
    learn = Opponent.learn
    monkeypatch.setattr(Opponent, "learn", lambda self, r, f, t: seen.append(t) or learn(self, r, f, t))
    small(name=name).erase(tiny, concept_set("church"), context)
    assert seen == [False] * 2 + [tainted] * 4


def test_the_step_is_surgery_on_the_gradients_of_both_losses(tiny, context):
    """From a joint graph of all rows, computed the long way round."""
    method = small("warmup=0", "share=0.7", "clip_norm=0.05", "retain_weight=0.25")
    predicted, opponent = begun(tiny, method, context)
    random = context.generator("doco", "step", 3)
    batch, others = predicted.batch(tiny, 2, 3, context), predicted.anchors.batch(2, 3, context)
    kept = Noised.draw(tiny, others.clean, random)
    with select(tiny, method.parameters) as selection, start_token_detached(tiny):
        for parameter in selection.parameters.values():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=random)
        parameters = list(selection.parameters.values())
        found = tiny.predict(
            torch.cat([batch.latents, kept.latents]),
            torch.cat([batch.timesteps, kept.timesteps]),
            type(batch.erased).cat([batch.erased, others.anchored]),
        )
        alpha = tiny.alphas_cumprod[batch.timesteps].reshape(-1, 1, 1, 1).sqrt()
        clean = (batch.latents - (1 - alpha**2).sqrt() * found[:2]) / alpha
        judged = opponent.network(clean)
        zeros = torch.zeros_like(judged)
        losses = (
            torch.nn.functional.binary_cross_entropy_with_logits(judged, zeros),
            torch.nn.functional.mse_loss(found[2:], kept.target),
        )
        g, h = (torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses)
        step = method.play(tiny, selection, predicted, opponent, 3, context)
    assert step.values["loss"] == pytest.approx(losses[0].item(), rel=1e-4)
    assert step.values["preservation"] == pytest.approx(losses[1].item(), rel=1e-4)
    g, h = (
        [each * min(1.0, 0.05 / float(torch.cat([e.flatten() for e in part]).norm())) for each in part]
        for part in (g, h)
    )
    against = 0
    for a, b, taken in zip(g, h, step.gradients, strict=True):
        product = (a * b).sum()
        against += bool(product < 0)
        expected = a - 0.7 * product.clamp(max=0) / b.square().sum() * b + 0.25 * b
        assert torch.allclose(taken, expected, rtol=1e-3, atol=1e-7)
    assert step.values["conflicts"] == pytest.approx(against / len(g))
    assert 0 < against < len(g)


def test_what_the_original_predicts_is_for_the_anchor_and_of_the_original(tiny, context, monkeypatch):
    method, seen = small("warmup=1"), []
    predicted, opponent = begun(tiny, method, context)
    monkeypatch.setattr(Opponent, "learn", lambda _, r, f, _t: seen.append((r, f)) or {"loss": 0.0})
    with select(tiny, method.parameters) as selection:
        for parameter in selection.parameters.values():
            parameter.data += 0.1
        method.play(tiny, selection, predicted, opponent, 1, context)
        trained_weights = {name: value.detach().clone() for name, value in selection.parameters.items()}
    batch = predicted.batch(tiny, 2, 1, context)
    with torch.no_grad():
        original = batch.anchored
        with select(tiny, method.parameters) as selection:
            for name, parameter in selection.parameters.items():
                parameter.data.copy_(trained_weights[name])
            trained = tiny.predict(batch.latents, batch.timesteps, batch.erased)
    for found, expected in zip(seen[0], (original, trained), strict=True):
        assert not found.requires_grad
        expected = tiny.denoised(batch.latents, batch.timesteps, expected)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_no_forward_is_wasted(tiny, context):
    """Two predictions an image beforehand, none in the warm-up and two after it."""
    method = small("sampler.batch_size=6")
    calls, predict = [], type(tiny).predict

    class Counted(type(tiny)):
        def predict(self, latents, *rest):
            calls.append((len(latents), torch.is_grad_enabled()))
            return predict(self, latents, *rest)

    before = tiny.forwards
    own = type(tiny)
    tiny.__class__ = Counted
    try:
        method.erase(tiny, concept_set("church"), context)
    finally:
        tiny.__class__ = own
    pool = method.images * method.sampler.steps * 2
    assert tiny.forwards - before == pool + 2 * 8 + 4 * 2 * 2
    assert calls[-3 - 4 * 2 :] == [(6, False), (6, False), (4, False)] + [(2, True)] * 2 * 4


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    """In the warm-up and after it: the discriminator and its optimizer are in the checkpoints."""
    method, concepts = small(), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 1, 4)


def test_the_denoiser_learns_to_pass(tiny, context, monkeypatch):
    """Before a discriminator that stands still, on one batch."""
    method = small("warmup=0", "optimizer.lr=1e-2")
    predicted, opponent = begun(tiny, method, context)
    monkeypatch.setattr(
        Opponent, "learn", lambda self, _r, f, _t: {"loss": doco.unrecognised(self.network(f)).item()}
    )
    with select(tiny, method.parameters) as selection:
        history = fit(
            selection,
            lambda _: method.play(tiny, selection, predicted, opponent, 0, context),
            12,
            method.optimizer,
            context,
        )
    losses = [each["loss"] for each in history]
    assert losses[-1] < 0.97 * losses[0]
    assert sum(b < a for a, b in pairwise(losses)) > 8


def test_v_prediction(tmp_path, context):
    model = tiny_settings(write_tiny(tmp_path / "v", "v_prediction")).load("cpu")
    erasure = small().erase(model, concept_set("church"), context)
    assert erasure.weights.keys() == matching(model, ["cross_attention_kv"]).keys()


def test_several_kinds_take_the_smallest_rate_and_each_needs_one(tiny, context, monkeypatch):
    rates = []
    begin = Opponent.begin
    monkeypatch.setattr(Opponent, "begin", lambda like, lr, *rest: rates.append(lr) or begin(like, lr, *rest))
    concepts = concept_set("church", "van gogh")
    concepts.erase["van gogh"].kind = "style"
    method = small("discriminator_lr={object:3e-4,style:2e-4}")
    method.erase(tiny, concepts, context)
    assert rates == [2e-4]
    method.discriminator_lr.pop("style")
    with pytest.raises(ConfigError, match=r"method.discriminator_lr: needs a value for style"):
        method.erase(tiny, concepts, context)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=0", "steps: must be at least 1"),
        ("warmup=6", "warmup: must be from 0 to below the 6 steps, got 6"),
        ("share=1.5", "share: must be from 0 to 1"),
        ("retain_weight=-1", "retain_weight: must be a number from 0 up"),
        ("clip_norm=0", "clip_norm: must be a number above 0"),
        ("rule=exakt", "rule: Unknown rule 'exakt'.*exact"),
        ("discriminator_lr.object=0", "discriminator_lr.object: must be a number above 0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)


def test_a_rate_for_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"discriminator_lr: Unknown kind of concept 'objekt'.*object"):
        replace(small(), discriminator_lr={"objekt": 1e-4})


def test_the_defaults_are_the_exact_rule_and_an_untainted_opponent():
    own, released = configured("doco"), configured("doco_released")
    assert (own.rule, own.tainted) == ("exact", False)
    assert (released.rule, released.tainted) == ("released", True)
    assert replace(released, rule="exact", tainted=False) == own
    assert math.isclose(own.optimizer.lr, 6e-6 * own.batch_size)
