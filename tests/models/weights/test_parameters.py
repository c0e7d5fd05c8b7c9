"""Selecting parameters, and leaving the model as it was."""

from __future__ import annotations

import pytest
import torch
from tiny_checkpoint import assert_untouched, state

from unlearn.errors import ConfigError
from unlearn.models.erasure import Erasure
from unlearn.models.weights.parameters import SELECTIONS, drift, matching, select

KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def test_named_selections_are_what_they_say(tiny):
    names = {name for name, _ in tiny.named_parameters()}
    unet = {name for name in names if name.startswith("unet.")}
    cross = {name for name in unet if ".attn2." in name}
    chosen = {selection: set(matching(tiny, selection)) for selection in SELECTIONS}
    assert chosen["cross_attention"] == cross
    assert chosen["cross_attention_kv"] == {
        name for name in cross if name.endswith(("to_k.weight", "to_v.weight"))
    }
    assert len(chosen["cross_attention_kv"]) == 2 * 7
    assert chosen["no_cross_attention"] == unet - cross
    assert chosen["denoiser"] == unet
    assert chosen["text_encoder"] == {name for name in names if name.startswith("text_encoder.")}


def test_patterns_and_names_can_be_mixed_and_keep_the_models_order(tiny):
    chosen = matching(tiny, ["cross_attention", "text_encoder.encoder.layers.0.*", "!*.bias"])
    assert {name.split(".")[0] for name in chosen} == {"unet", "text_encoder"}
    assert not any(name.endswith(".bias") for name in chosen)
    assert list(chosen) == [name for name, _ in tiny.named_parameters() if name in chosen]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("cross_atention", "no parameter of this model matches 'cross_atention'. Nearest: cross_attention"),
        (["unet.*attn3.to_k.*"], r"matches 'unet.\*attn3.to_k.\*'. Nearest: attn[12], attn[12]\."),
        (["denoiser", "!vaee.*"], "matches '!vaee"),
        (["unet.conv_in.*", "!unet.*"], "leaves out every parameter"),
        ([], "leaves out every parameter"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_the_nearest(tiny, patterns, message):
    before = state(tiny)
    with pytest.raises(ConfigError, match=message), select(tiny, patterns):
        pass
    assert_untouched(tiny, before)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("inside", [False, True], ids=["changed", "original"])
def test_the_model_is_as_before_whatever_happens(tiny, error, inside):
    before = state(tiny)
    storage = {name: parameter.data_ptr() for name, parameter in tiny.named_parameters()}

    def edit():
        with select(tiny, "cross_attention_kv") as selection:
            for parameter in selection.parameters.values():
                assert parameter.requires_grad
                parameter.data.mul_(3)
            selection.parameters[KEY].data = torch.zeros_like(selection.parameters[KEY])
            tiny.predict(torch.ones(1, 4, 8, 8), torch.tensor(3), tiny.encode(["a"])).sum().backward()
            if inside:
                with selection.original():
                    assert torch.equal(selection.parameters[KEY], before[KEY])
                    if error:
                        raise error
            if error:
                raise error

    if error:
        with pytest.raises(error):
            edit()
    else:
        edit()
    assert_untouched(tiny, before)
    assert storage == {name: parameter.data_ptr() for name, parameter in tiny.named_parameters()}


def test_only_the_selected_parameters_take_gradients(tiny):
    with select(tiny, "cross_attention_kv") as selection:
        tiny.predict(torch.ones(1, 4, 8, 8), torch.tensor(3), tiny.encode(["a"])).sum().backward()
        with_gradient = {name for name, parameter in tiny.named_parameters() if parameter.grad is not None}
        assert with_gradient == set(selection.parameters)


def test_changed_holds_copies_of_what_differs_only(tiny):
    before = state(tiny)
    with select(tiny, "cross_attention") as selection:
        assert selection.changed() == {}
        selection.parameters[KEY].data += 1
        changed = selection.changed()
        selection.parameters[KEY].data += 1
    assert list(changed) == [KEY]
    assert torch.equal(changed[KEY], before[KEY] + 1)
    assert not changed[KEY].requires_grad


def test_original_is_the_original_without_gradients_and_the_change_is_back_after(tiny):
    inputs = torch.ones(1, 4, 8, 8), torch.tensor(500), tiny.encode(["a cat"])
    expected = tiny.predict(*inputs)
    with select(tiny, "cross_attention_kv") as selection:
        for parameter in selection.parameters.values():
            parameter.data.mul_(2)
        changed = tiny.predict(*inputs)
        assert not torch.equal(changed, expected)
        with selection.original():
            original = tiny.predict(*inputs)
            with selection.original():
                assert torch.equal(tiny.predict(*inputs), expected)
        assert torch.equal(original, expected)
        assert not original.requires_grad
        assert torch.equal(tiny.predict(*inputs), changed)


def test_a_swap_between_forward_and_backward_leaves_the_gradients_right(tiny):
    inputs = torch.ones(1, 4, 8, 8), torch.tensor(500), tiny.encode(["a cat"])

    def gradients(swap: bool) -> list[torch.Tensor]:
        with select(tiny, "denoiser") as selection:
            for parameter in selection.parameters.values():
                parameter.data.mul_(1.01)
            loss = tiny.predict(*inputs).square().sum()
            if swap:
                with selection.original():
                    tiny.predict(*inputs)
            loss.backward()
            return [parameter.grad.clone() for parameter in selection.parameters.values()]

    pairs = zip(gradients(swap=False), gradients(swap=True), strict=True)
    assert all(torch.equal(straight, swapped) for straight, swapped in pairs)


def test_training_through_the_selection_learns_and_keeps_the_original(tiny):
    inputs = torch.ones(1, 4, 8, 8), torch.tensor(500), tiny.encode(["a cat"])
    before = state(tiny)
    with select(tiny, "cross_attention") as selection:
        optimizer = torch.optim.SGD(selection.parameters.values(), lr=1e-3)
        losses = []
        for _ in range(5):
            with selection.original():
                target = tiny.predict(*inputs) * 0.9
            loss = (tiny.predict(*inputs) - target).square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0]
        assert selection.changed()
    assert_untouched(tiny, before)


def test_drift_is_relative_to_what_was_changed(tiny):
    weight = matching(tiny, KEY)[KEY].detach()
    assert drift(tiny, Erasure()) == 0
    assert drift(tiny, Erasure(weights={KEY: 1.25 * weight})) == pytest.approx(0.25, rel=1e-5)
    other = KEY.replace("to_k", "to_v")
    both = Erasure(weights={KEY: 0 * weight, other: matching(tiny, other)[other].detach()})
    assert 0 < drift(tiny, both) < 1
