"""RealEra: its map with neighbours, and its alignment."""

from __future__ import annotations

import inspect
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from method_cases import concept_set, configured, interrupted, relative

from unlearn.errors import ConfigError
from unlearn.methods.closed_form.realera.alignment import Alignment, moved
from unlearn.methods.closed_form.realera.neighbours import Shell
from unlearn.methods.closed_form.realera.realera import RealEra
from unlearn.methods.closed_form.solver import TextRows
from unlearn.methods.closed_form.uce import Rows
from unlearn.models.model import Conditioning
from unlearn.models.weights.adapters import adapted
from unlearn.models.weights.parameters import matching, select

SMALL = (
    "neighbours.count=4",
    "beyond.count=32",
    "alignment.steps=4",
    "alignment.batch_size=2",
    "alignment.images=4",
    "alignment.rank=2",
    "alignment.optimizer.lr=1e-3",
    "alignment.sampler.steps=3",
)


def small(*overrides: str) -> RealEra:
    return configured("realera", *SMALL, *overrides)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def alone(neighbours: Shell, beyond: Shell, **changes) -> RealEra:
    """Of the closed form what the shells make of it, with bounds that let them be tried."""
    base = configured("realera", "alignment=null", "preserve_scale=0", "ridge=1e-6", "largest_shrinking=0.99")
    return replace(base, neighbours=neighbours, beyond=beyond, **changes)


def pairs_of(concepts) -> list[tuple[str, str]]:
    return [pair for concept in concepts.erase.values() for pair in concept.pairs]


def test_without_neighbours_and_beyond_it_is_uce(tiny, context):
    concepts = concept_set("church", "a cat")
    method = small("neighbours.count=0", "beyond.count=0", "preserve_scale=0.3", "alignment=null")
    matrix, values = method.solved(tiny, concepts, pairs_of(concepts), None, context)
    uce = configured("uce_2023", "preserve_scale=0.3", f"ridge={method.ridge}")
    rows, solution = uce.solved(TextRows.encode(tiny, uce.texts(concepts)), concepts)
    expected = solution.map(rows.erased, rows.targets)
    assert relative(matrix - torch.eye(32), expected - torch.eye(32)) < 1e-8
    assert values["condition"] > 1


@pytest.mark.parametrize("directions", [None, randn(24, 24, seed=9)])
def test_the_map_is_the_least_squares_solution(directions):
    method = alone(
        Shell(count=3, cosine=[0.8, 0.9]),
        Shell(count=20, cosine=[-0.1, 0.1]),
        beyond_scale=0.7,
        preserve_scale=0.4,
        ridge=0.2,
    )
    erased, targets, retained = 5 * randn(20, 24), 5 * randn(20, 24, seed=1), 5 * randn(9, 24, seed=2)
    random = torch.Generator().manual_seed(3)
    matrix, _ = method.map(Rows(erased, targets, retained), random, directions)

    random = torch.Generator().manual_seed(3)
    left, right = (
        [0.4**0.5 * retained, 0.2**0.5 * torch.eye(24)],
        [0.4**0.5 * retained, 0.2**0.5 * torch.eye(24)],
    )
    for chunk in (slice(0, 16), slice(16, 20)):
        near = method.neighbours.around(erased[chunk], random, directions)
        beyond = 0.7**0.5 * method.beyond.around(erased[chunk], random, directions).flatten(0, 1)
        left += [erased[chunk], near.flatten(0, 1), beyond]
        right += [targets[chunk], targets[chunk].repeat_interleave(3, dim=0), beyond]
    expected = torch.linalg.lstsq(torch.cat(left), torch.cat(right), driver="gelsd").solution.T
    assert relative(matrix, expected) < 1e-9


@pytest.mark.parametrize("scale", [0.05, 0.5])
def test_neighbours_shrink_what_has_nothing_to_do_with_them_as_foreseen(scale):
    method = alone(
        Shell(count=20000, cosine=[0.85, 0.98]), Shell(count=20000, cosine=[-0.1, 0.1]), beyond_scale=scale
    )
    row = 28 * torch.nn.functional.normalize(randn(1, 24), dim=1)
    target = randn(1, 24, seed=1)
    target -= (target @ row.T) * row / 28**2
    matrix, _ = method.map(Rows(row, target, row[:0]), torch.Generator().manual_seed(0))
    x = randn(4000, 24, seed=2)
    x -= (x @ row.T) * row / 28**2
    share = float((x @ matrix.T * x).sum() / x.square().sum())
    assert share == pytest.approx(1 - method.shrinking, rel=0.01)
    assert 0.1 < method.shrinking < 0.8
    along = float(row @ matrix @ row.T / 28**2)
    assert along == pytest.approx(method.held, abs=0.01)


def test_what_is_beyond_keeps_unrelated_texts(tiny, context):
    concepts = concept_set("church")
    drifts = []
    for scale in (1e-3, 1.0):
        method = replace(
            small("alignment=null", "preserve_scale=0"), largest_shrinking=0.999, beyond_scale=scale
        )
        matrix, _ = method.solved(tiny, concepts, pairs_of(concepts), None, context)
        tokens = tiny.encode(["a house", "a dog and a cat"]).tokens.detach().double()
        drifts.append(relative(tokens @ matrix.T, tokens))
    assert drifts[1] < 0.7 * drifts[0]


def test_neighbours_that_were_not_drawn_come_nearer_to_the_anchor_than_with_uce():
    rows, targets = 5 * randn(1, 24), 5 * randn(1, 24, seed=1)
    shells = Shell(count=400, cosine=[0.85, 0.98]), Shell(count=4000, cosine=[-0.1, 0.1])
    none = Shell(count=0, cosine=[0.0, 0.0])
    matrices = [
        alone(*both, beyond_scale=0.05).map(Rows(rows, targets, rows[:0]), torch.Generator().manual_seed(0))[
            0
        ]
        for both in (shells, (none, none))
    ]
    held_out = shells[0].around(rows, torch.Generator().manual_seed(5), count=500)[0]
    ours, uce = ((held_out @ matrix.T - targets).norm() for matrix in matrices)
    assert ours < 0.9 * uce


def test_too_little_beyond_is_refused_when_configured():
    message = r"beyond_scale: the neighbours would shrink all embeddings by 39%, and .* is 5%"
    with pytest.raises(ValueError, match=message):
        configured("realera", "beyond.count=8")
    with pytest.raises(ValueError, match=r"beyond.cosine: what is beyond would hold 71% of the concept"):
        configured("realera", "beyond.cosine=[0.3,0.7]")


def test_an_edit_that_shrinks_far_more_than_foreseen_is_refused(tiny, context, monkeypatch):
    concepts = concept_set("church")
    method = small("alignment=null")
    shrunk = 0.5 * torch.eye(32, dtype=torch.float64)
    monkeypatch.setattr(RealEra, "map", lambda *_: (shrunk, 1.0))
    with pytest.raises(
        ConfigError, match=r"beyond_scale: the edit leaves 50% of embeddings beyond the concept"
    ):
        method.solved(tiny, concepts, pairs_of(concepts), None, context)


def test_directions_of_the_vocabulary(tiny, context):
    method, concepts = small("directions=vocabulary", "alignment=null"), concept_set("church")
    directions = method.vocabulary(tiny, concepts)
    assert directions.shape == (32, 32)
    ours = method.erase(tiny, concepts, context)
    other = small("alignment=null").erase(tiny, concepts, context)
    assert relative(ours.map, other.map) > 1e-3


def test_additions_begin_as_nothing_and_end_in_the_weights(tiny, context):
    method = small()
    erasure = method.erase(tiny, concept_set("church"), context)
    plain = small("alignment=null").erase(tiny, concept_set("church"), context)
    assert plain.map is not None
    assert erasure.map is None
    assert erasure.weights.keys() == matching(tiny, ["cross_attention_kv"]).keys()
    for name, weight in erasure.weights.items():
        change = (weight - plain.weights[name]).double()
        values = torch.linalg.svdvals(change)
        assert values[1] > 1e-6  # of the rank of the additions: two
        assert values[2] < 1e-4 * values[0]
    prompt, x, t = tiny.encode(["a church"]), torch.randn(1, 4, 8, 8), torch.tensor(300)
    with select(tiny, method.parameters) as edited, torch.no_grad():
        before = tiny.predict(x, t, prompt)
        factors = method.alignment.factors(edited, context)
        with adapted(tiny, factors):
            assert torch.equal(tiny.predict(x, t, prompt), before)


def batch(method: RealEra, tiny, context):
    """A loss that draws the same every time it is asked."""
    pairs = [("a church", "a dog"), ("a cat", "a dog")]
    concept, anchor = (tiny.encode([pair[i] for pair in pairs]) for i in (0, 1))
    concept, anchor = Conditioning(concept.tokens.detach()), Conditioning(anchor.tokens.detach())
    images = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    shells = method.neighbours, method.beyond

    def loss(edited, factors):
        return method.alignment.loss(tiny, edited, factors, images, concept, anchor, shells, None, 0, context)

    return loss


def test_the_loss_falls_on_a_fixed_batch(tiny, context):
    method = small()
    with select(tiny, method.parameters) as edited:
        factors = method.alignment.factors(edited, context)
        fixed = batch(method, tiny, context)
        flat = [factor for both in factors.values() for factor in both]
        adam, losses = torch.optim.Adam(flat, lr=3e-3), []
        for _ in range(15):
            value = fixed(edited, factors)
            for factor, gradient in zip(flat, torch.autograd.grad(value, flat), strict=True):
                factor.grad = gradient
            adam.step()
            losses.append(value.item())
    assert losses[-1] < 0.8 * losses[0]


def test_nothing_is_lost_beyond_the_concept_before_anything_is_edited(tiny, context):
    """The part of what is beyond is 0 for the original weights, so that its weight does not matter there."""
    values = []
    for beta in (0.0, 100.0):
        method = small(f"alignment.beta={beta}")
        with select(tiny, method.parameters) as edited, torch.no_grad():
            values.append(
                float(batch(method, tiny, context)(edited, method.alignment.factors(edited, context)))
            )
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    assert values[0] > 0


def test_all_tokens_but_the_first_are_moved(tiny):
    tokens = tiny.encode(["a church", "a cat"]).tokens.detach()
    shell = Shell(count=1, cosine=[0.85, 0.98])
    found = moved(Conditioning(tokens), shell, torch.Generator().manual_seed(0), None).tokens
    assert torch.equal(found[:, 0], tokens[:, 0])
    cosine = torch.cosine_similarity(found[:, 1:], tokens[:, 1:], dim=-1)
    assert cosine.min() > 0.84
    assert cosine.max() < 0.99
    assert cosine.std() > 0.01  # each by its own


def test_no_forward_is_wasted(tiny, context):
    before = tiny.forwards
    small().erase(tiny, concept_set("church"), context)
    images = 4 * 3 * 2
    training = 4 * (2 * 2 + 2 * 2)
    assert tiny.forwards - before == images + training


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    interrupted(tiny, small(), concept_set("church", "a cat"), tmp_path, monkeypatch, 2, says="loss")


def test_it_says_that_it_is_reconstructed():
    assert "This is a reconstruction" in inspect.getdoc(RealEra)
    assert "reconstructed" in inspect.getdoc(Alignment)
    text = files("unlearn.conf").joinpath("method", "realera.yaml").read_text()
    assert "RECONSTRUCTED" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("directions=isotropc", "directions: Unknown directions 'isotropc'. Did you mean 'isotropic'"),
        ("ridge=-1", "ridge: must be a number from 0 up"),
        ("beyond_scale=-1", "beyond_scale: must be a number from 0 up"),
        ("largest_shrinking=0", "largest_shrinking: must be between 0 and 1"),
        ("alignment.rank=0", "rank: must be at least 1"),
        ("alignment.beta=-1", "beta: must be a number from 0 up"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
