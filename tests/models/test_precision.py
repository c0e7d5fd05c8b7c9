"""Mixed precision, recomputed activations, and compiling: the same model, for less."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_checkpoint import assert_untouched, state, tiny_settings
from torch import nn

from unlearn.errors import IncompatibleError
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import draw
from unlearn.models.weights.adapters import adapted
from unlearn.models.weights.attention import outputs
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import select

KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
HALVES = {"bfloat16": (torch.bfloat16, 0.05), "float16": (torch.float16, 0.005)}


@pytest.fixture(scope="module", params=HALVES)
def half(request, tiny_folder):
    """The model in half precision, its dtype, and how far it may be from float32."""
    model = replace(tiny_settings(tiny_folder), dtype=request.param).load("cpu")
    return model, *HALVES[request.param]


def inputs(model):
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=random).to(model.dtype)
    with torch.no_grad():
        return latents, torch.tensor([300, 700]), model.encode(["a church", "a cat"])


@pytest.mark.parametrize("selected", ["cross_attention", "denoiser", "text_encoder"])
def test_open_weights_are_float32_and_all_is_as_before_afterwards(selected, half):
    model, dtype, _ = half
    before = state(model)
    with select(model, selected) as selection:
        assert {p.dtype for p in selection.parameters.values()} == {torch.float32}
        others = {p.dtype for name, p in model.named_parameters() if name not in selection.parameters}
        assert others <= {dtype}
        assert model.half == model.dtype == dtype
        with select(model, "text_encoder.encoder.layers.0.*"):
            assert model.half == dtype
        assert model.half == dtype
        selection.parameters[next(iter(selection.parameters))].data += 1
    assert model.half is None
    assert model.dtype == dtype
    assert_untouched(model, before)


def test_a_model_in_float32_is_not_mixed(tiny):
    with select(tiny, "cross_attention"):
        assert tiny.half is None
        assert tiny.precision().__class__.__name__ == "nullcontext"


def test_mixed_predictions_are_float32_and_near_those_of_float32(half, tiny):
    model, _, bound = half
    with torch.no_grad():
        expected = tiny.predict(*inputs(tiny))
        plain = model.predict(*inputs(model))
        with select(model, "cross_attention"):
            mixed = model.predict(*inputs(model))
    assert mixed.dtype == torch.float32
    assert plain.dtype == model.dtype
    assert (mixed - expected).norm() < bound * expected.norm()


def test_changes_too_small_for_half_precision_are_kept(half):
    model, dtype, _ = half
    with select(model, "cross_attention_kv") as selection:
        assert selection.changed() == {}
        weight = selection.parameters[KEY].data
        before = weight.clone()
        weight *= 1 + 1e-5
        assert torch.equal(weight.to(dtype), before.to(dtype))
        changed = selection.changed()
    assert changed[KEY].dtype == torch.float32
    assert torch.equal(changed[KEY], weight)


def test_original_is_the_original_and_leaves_a_graph_that_is_alive(half):
    model, _, _ = half
    given = inputs(model)

    def gradients(swap: bool):
        with select(model, "cross_attention_kv") as selection:
            with torch.no_grad():
                expected = model.predict(*given)
            for parameter in selection.parameters.values():
                parameter.data.mul_(1.5)
            loss = model.predict(*given).square().mean()
            if swap:
                with selection.original():
                    assert torch.equal(model.predict(*given), expected)
            return gradients_of(loss, list(selection.parameters.values()))

    pairs = list(zip(gradients(swap=False), gradients(swap=True), strict=True))
    assert all(torch.equal(straight, swapped) for straight, swapped in pairs)
    assert all(straight.dtype == torch.float32 for straight, _ in pairs)
    assert all(straight.any() for straight, _ in pairs)


def test_small_gradients_do_not_vanish_in_float16(tiny_folder, tiny):
    def gradients(model, function):
        with select(model, "cross_attention_kv") as selection:
            small = model.predict(*inputs(model)).square().mean() * 1e-5
            return torch.cat([g.flatten() for g in function(small, list(selection.parameters.values()))])

    model = replace(tiny_settings(tiny_folder), dtype="float16").load("cpu")
    expected = gradients(tiny, torch.autograd.grad)
    assert torch.equal(gradients(tiny, gradients_of), expected)
    found, unscaled = (gradients(model, function) for function in (gradients_of, torch.autograd.grad))
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert (unscaled - expected).norm() > 0.2 * expected.norm()


def test_gradients_of_what_a_loss_ignores_are_zero():
    used, ignored = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    first, second = gradients_of((3 * used).sum(), [used, ignored])
    assert first.tolist() == [3, 3]
    assert second.tolist() == [0, 0, 0]


def test_an_erasure_of_float32_applies_in_half_precision(half):
    model, dtype, _ = half
    before = state(model)
    weights = {KEY: before[KEY].float() + 1}
    with model.erased(Erasure(weights=weights)):
        assert torch.equal(dict(model.named_parameters())[KEY], weights[KEY].to(dtype))
    assert_untouched(model, before)


@pytest.fixture(scope="module")
def frugal(tiny_folder):
    return replace(tiny_settings(tiny_folder), checkpointing=True).load("cpu")


def trained(model) -> list[torch.Tensor]:
    """Gradients, with the original model asked while the graph is alive."""
    with select(model, "denoiser") as selection:
        for parameter in selection.parameters.values():
            parameter.data.mul_(1.01)
        loss = model.predict(*inputs(model)).square().mean()
        with selection.original():
            model.predict(*inputs(model))
        return gradients_of(loss, list(selection.parameters.values()))


def test_recomputed_activations_give_the_same_gradients(tiny, frugal):
    calls = []
    # Before the call, for the one on the way back stops when it has what it needs.
    first = frugal.parts["unet"].down_blocks[0].resnets[0]
    hook = first.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        found = trained(frugal)
    finally:
        hook.remove()
    assert len(calls) == 3  # the model, the original, and once more on the way back
    assert all(torch.equal(a, b) for a, b in zip(found, trained(tiny), strict=True))


def test_an_addition_that_is_gone_when_activations_are_recomputed_is_named(frugal):
    weight = dict(frugal.named_parameters())[KEY]
    down, up = (
        nn.Parameter(torch.ones(1, 2, weight.shape[1])),
        nn.Parameter(torch.ones(1, weight.shape[0], 2)),
    )
    with adapted(frugal, {KEY: (down, up)}):
        loss = frugal.predict(*inputs(frugal)).square().mean()
        within = gradients_of(loss, [down, up])
        loss = frugal.predict(*inputs(frugal)).square().mean()
    assert within[0].any()
    with pytest.raises(IncompatibleError, match=r"Use model\.checkpointing=false"):
        gradients_of(loss, [down, up])


def test_the_ways_to_save_are_not_part_of_what_a_run_is():
    from unlearn.config.compose import composed
    from unlearn.config.identity import signature

    common = ["method=none", "tracker=none"]
    own = signature(composed(common))
    assert signature(composed([*common, "model.checkpointing=true", "model.compile=true"])) == own
    assert signature(composed([*common, "model.dtype=bfloat16"])) != own


def test_compiling_is_asked_for(tiny_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    tiny_settings(tiny_folder).load("cpu")
    assert compiled == []
    replace(tiny_settings(tiny_folder), compile=True).load("cpu")
    assert compiled == ["UNet2DConditionModel"]


@pytest.mark.slow
def test_a_compiled_model_sees_new_weights_and_hooks(tiny, tiny_folder, monkeypatch):
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: original(module, backend="aot_eager"))
    model = replace(tiny_settings(tiny_folder), compile=True).load("cpu")
    own = state(tiny)
    random = torch.Generator().manual_seed(0)
    down = torch.randn(1, 2, own[KEY].shape[1], generator=random)
    up = torch.randn(1, own[KEY].shape[0], 2, generator=random)

    def erased(each):
        with each.erased(Erasure(weights={KEY: 3 * own[KEY]})):
            return each.predict(*inputs(each))

    def added(each):
        with adapted(each, {KEY: (down, up)}):
            return each.predict(*inputs(each))

    with torch.no_grad():
        plain = tiny.predict(*inputs(tiny))
        assert torch.allclose(model.predict(*inputs(model)), plain, atol=1e-5)
        for ask in (erased, added):
            assert (ask(tiny) - plain).abs().max() > 1e-3
            assert torch.allclose(ask(model), ask(tiny), atol=1e-5)
            assert torch.allclose(model.predict(*inputs(model)), plain, atol=1e-5)
        with outputs(model) as found:
            model.predict(*inputs(model))
        assert len(found) == sum(name.endswith("attn2") for name, _ in model.parts["unet"].named_modules())
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(trained(model), trained(tiny), strict=True))


def test_images_can_be_drawn_while_weights_are_open(half):
    model, _, _ = half
    sampler = replace(tiny_settings("").sampler, steps=2)
    (plain,) = draw(model, ["a church"], [0], sampler)
    with select(model, "denoiser"):
        (mixed,) = draw(model, ["a church"], [0], sampler)
    assert (mixed - plain).abs().mean() < 0.02
