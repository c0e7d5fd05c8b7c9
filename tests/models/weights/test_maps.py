"""Maps as things of their own: multiplied, taken back, put before the weights, written as a LoRA."""

from __future__ import annotations

import pytest
import torch
from tiny_checkpoint import assert_untouched, state

from unlearn.errors import IncompatibleError
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.model import Conditioning
from unlearn.models.weights.maps import apply_map, chained, compose, lora, low_rank, mapped, undo
from unlearn.models.weights.parameters import matching


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def relative(value: torch.Tensor, reference: torch.Tensor) -> float:
    return float((value.double() - reference.double()).norm() / reference.double().norm())


def edit(model, matrix: torch.Tensor) -> Erasure:
    weights = {name: p.detach().clone() for name, p in matching(model, "cross_attention_kv").items()}
    apply_map(list(weights.values()), matrix)
    return Erasure(weights=weights, history=[{"change": 1.0}], map=matrix)


def random_map(seed: int) -> torch.Tensor:
    return torch.eye(32, dtype=torch.float64) + randn(32, 3, seed=seed) @ randn(3, 32, seed=seed + 1) / 20


@pytest.fixture(scope="module")
def edits(tiny) -> tuple[Erasure, Erasure]:
    return edit(tiny, random_map(1)), edit(tiny, random_map(3))


@torch.no_grad()
def predicted(model, conditioning: Conditioning) -> torch.Tensor:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return model.predict(latents, torch.tensor(500), conditioning)


def test_edits_one_after_another_multiply(tiny, edits):
    before = state(tiny)
    first, second = edits
    with tiny.erased(first):
        stepwise = edit(tiny, second.map)
    both = compose(tiny, [first, second])
    assert_untouched(tiny, before)
    assert torch.equal(both.map, first.map @ second.map)
    assert both.history == first.history + second.history
    assert both.weights.keys() == first.weights.keys()
    for name, weight in both.weights.items():
        assert relative(weight, stepwise.weights[name]) < 1e-6
        assert relative(weight, first.weights[name]) > 1e-3
    other_way = compose(tiny, [second, first])
    assert relative(other_way.map, both.map) > 1e-3


def test_maps_are_chained_as_a_product_and_other_changes_as_what_is_left(tiny, edits):
    first, second = edits
    both = chained(tiny, first, second)
    expected = compose(tiny, [first, second])
    assert torch.equal(both.map, expected.map)
    assert all(torch.equal(both.weights[name], expected.weights[name]) for name in expected.weights)
    assert both.history == second.history

    names = list(first.weights)
    trained = Erasure(weights={name: second.weights[name] for name in names[:2]}, history=[{"loss": 2.0}])
    mixed = chained(tiny, first, trained)
    assert mixed.map is None
    assert mixed.weights.keys() == first.weights.keys()
    for name in names:
        expected = second if name in names[:2] else first
        assert torch.equal(mixed.weights[name], expected.weights[name])
    assert mixed.history == trained.history
    assert not chained(tiny, Erasure(), Erasure()).weights
    for pair in ((first, Erasure(guard=Guard())), (Erasure(guard=Guard()), first)):
        with pytest.raises(IncompatibleError, match="acts while sampling"):
            chained(tiny, *pair)


def test_the_last_edit_can_be_taken_back(tiny, edits):
    first, second = edits
    back = undo(tiny, compose(tiny, [first, second]), second)
    assert relative(back.map, first.map) < 1e-12
    assert all(torch.allclose(back.weights[name], first.weights[name], atol=1e-6) for name in first.weights)
    assert back.history == first.history
    none = undo(tiny, first, first)
    own = state(tiny)
    assert relative(none.map, torch.eye(32)) < 1e-12
    assert all(torch.equal(none.weights[name], own[name]) for name in none.weights)


def test_the_original_network_on_mapped_embeddings_is_the_edited_one(tiny, edits):
    first, _ = edits
    encoded = tiny.encode(["a photo of a church"])
    with tiny.erased(first):
        edited = predicted(tiny, encoded)
    original = predicted(tiny, encoded)
    assert relative(predicted(tiny, mapped(encoded, first.map)), edited) < 1e-5
    assert relative(original, edited) > 1e-3


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_factors_have_the_rank_of_the_change(rank):
    change = randn(32, rank) @ randn(rank, 32, seed=1) + 1e-12 * randn(32, 32, seed=2)
    left, right = low_rank(torch.eye(32) + change)
    assert left.shape == (32, rank)
    assert right.shape == (rank, 32)
    assert relative(left @ right, change) < 1e-10


def test_lora_factors_are_the_change_of_each_weight(tiny, edits):
    first, _ = edits
    factors, own = lora(tiny, first), state(tiny)
    assert len(factors) == 2 * len(first.weights)
    for name, weight in first.weights.items():
        module = name.removesuffix(".weight")
        down, up = factors[f"{module}.lora_A.weight"], factors[f"{module}.lora_B.weight"]
        assert down.shape == (3, 32)
        assert torch.allclose(own[name] + up @ down, weight, atol=1e-6)
        assert not torch.allclose(own[name], weight, atol=1e-4)


def test_a_map_is_saved_bit_for_bit_and_makes_the_same_weights(tiny, edits, tmp_path):
    first, _ = edits
    first.save(tmp_path)
    loaded = Erasure.load(tmp_path)
    assert loaded.map.dtype == torch.float64
    assert torch.equal(loaded.map, first.map)
    again = compose(tiny, [loaded])
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)
    (tmp_path / "other").mkdir()
    Erasure(weights=first.weights).save(tmp_path / "other")
    assert Erasure.load(tmp_path / "other").map is None


def test_what_is_no_map_is_refused(tiny, edits):
    first, _ = edits
    trained = Erasure(weights=first.weights)
    for action in (lambda: lora(tiny, trained), lambda: compose(tiny, [first, trained])):
        with pytest.raises(IncompatibleError, match="not one matrix for all projections"):
            action()
    part = Erasure(weights=dict(list(first.weights.items())[:2]), map=first.map)
    with pytest.raises(IncompatibleError, match="edits of different parameters"):
        compose(tiny, [first, part])
    singular = Erasure(weights=first.weights, map=torch.zeros(32, 32, dtype=torch.float64))
    with pytest.raises(IncompatibleError, match="singular"):
        undo(tiny, first, singular)
