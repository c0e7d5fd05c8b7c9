"""SAFREE: the authors' runs, its subspaces, its gate and its re-attention."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from golden_cases import resolution
from method_cases import concept_set, configured, golden_case, relative

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.guards.safree.safree import Replacement, SAFREEGuard, last_step, outstanding
from unlearn.methods.subspaces import basis, contents, off, onto, pooled
from unlearn.models.sampling import Sampler, draw, sample

NUDITY, ARTISTS = (5.333, 2.5), (5.5, 3.5)


def sampler(**changes) -> Sampler:
    values = {"scheduler": "ddim", "steps": 4, "guidance": 3.0, "resolution": 32, "batch_size": 4}
    return Sampler(**(values | changes))


def guard(model, *phrases: str, **changes) -> SAFREEGuard:
    settings = {"negative": None, "alpha": 0.01, "limit": 10, "curves": [list(NUDITY)], "last_step": None}
    span = basis(pooled(model, contents(model, phrases)))
    return SAFREEGuard(span=span, **(settings | {"re_attention": None} | changes))


def images(model, prompts, own, **changes) -> torch.Tensor:
    return torch.cat(list(draw(model, prompts, range(len(prompts)), sampler(**changes), guard=own)))


@pytest.mark.golden
@pytest.mark.parametrize("name", ["nudity", "artist"])
def test_golden(name, golden, golden_tiny):
    case = golden_case(golden, f"safree/{name}")
    inputs, prompt = case.inputs, case.inputs["prompt"]

    def close(value, key, reference=None, group=None):
        reference = case.tensors[key] if reference is None else reference
        assert relative(value, reference) < case.bound(group or key), key

    phrases = pooled(golden_tiny, contents(golden_tiny, inputs["negative_prompt_space"]))
    close(phrases, "negspace_pooled")
    (ids,) = contents(golden_tiny, [prompt])
    assert ids == inputs["tokens"][prompt]["ids"][1:-1]
    masked = pooled(golden_tiny, [[*ids[:i], 0, *ids[i + 1 :]] for i in range(len(ids))])
    close(masked, "masked_pooled")
    span, own = basis(phrases), basis(masked)
    close(span @ span.T, "concept_projection", group="*_projection")
    close(own @ own.T, "masked_projection", group="*_projection")
    close(off(masked, span).norm(dim=1), "dist", group="masked_pooled")

    encoded, empty = golden_tiny.encode([prompt]), golden_tiny.encode([""])
    tokens = encoded.tokens[0].double()
    close(off(onto(tokens, own), span), "orthogonal_embeddings", case.tensors["orthogonal_embeddings"][1])
    found = Replacement.of(tokens[: len(ids) + 2], masked, span, inputs["alpha"])
    assert found.triggers.tolist() == [not keep for keep in case.tensors["safe_token"].tolist()]
    assert int(found.triggers.sum()) == case.outputs["n_removed"]
    assert found.beta == pytest.approx(case.outputs["beta"], abs=case.bound("beta"))
    curve = ARTISTS if "artists-" in inputs["category"] else NUDITY
    assert last_step(found.beta, inputs["up_t"], *curve) == case.outputs["beta_adjusted"]

    filtered = SAFREEGuard(
        span=span,
        negative=inputs["negative_prompt"],
        alpha=inputs["alpha"],
        limit=inputs["up_t"],
        curves=[list(curve)],
        last_step=None,
        re_attention=None,
    )
    first, last = inputs["re_attn_t_used_in_latents_re_attn"]
    assert first == 0
    guards = {
        "latents_svf": filtered,
        "latents_re_attn": replace(filtered, last_step=last),
        "latents_plain": None,
    }
    settings = sampler(
        steps=inputs["num_inference_steps"],
        guidance=inputs["guidance_scale"],
        resolution=resolution(golden_tiny, case.tensors["latents_plain"]),
    )
    for key, guarded in guards.items():
        if guarded is not None:
            guarded = guarded.prepared(golden_tiny, [prompt], encoded)
            parts = guarded.branches(0, [prompt], [empty, encoded])
            close(parts[1].tokens[0], "safree_embeddings", case.tensors["safree_embeddings"][1])
        seeds = [inputs["latent_seed"]]
        latents, _ = sample(golden_tiny, encoded, empty, seeds, settings, guarded, prompts=[prompt])
        close(latents, key, group="latents_*")


@pytest.mark.parametrize(
    ("beta", "nudity", "artists"),
    [(0.45, 0, 0), (0.50, 2, 0), (0.52, 3, 1), (0.54, 6, 3), (0.56, 8, 7), (0.58, 9, 9), (0.6, 10, 10)],
)
def test_the_last_step_grows_with_what_is_taken_out(beta, nudity, artists):
    assert last_step(beta, 10, *NUDITY) == nudity
    assert last_step(beta, 10, *ARTISTS) == artists


@pytest.mark.parametrize("n", [2, 3, 40])
def test_each_token_is_held_against_the_mean_of_the_others(n):
    distances = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    plain = [
        bool(d >= 1.01 * torch.cat([distances[:i], distances[i + 1 :]]).mean())
        for i, d in enumerate(distances)
    ]
    assert outstanding(distances, 0.01).tolist() == plain
    assert not outstanding(distances, 1e9).any()


@pytest.mark.parametrize(("n", "d", "rank"), [(3, 24, 3), (40, 24, 24), (5, 24, 2)])
def test_projections(n, d, rank):
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(n, rank, dtype=torch.float64, generator=random) @ torch.randn(
        rank, d, dtype=torch.float64, generator=random
    )
    span, some = basis(rows), torch.randn(7, d, dtype=torch.float64, generator=random)
    assert span.shape == (d, rank)
    projector = span @ span.T
    assert torch.allclose(projector @ projector, projector)
    assert float(projector.trace()) == pytest.approx(rank)
    assert torch.allclose(onto(rows, span), rows)
    assert torch.allclose(off(some, span) @ span, torch.zeros(7, rank, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(onto(some, span) + off(some, span), some)


@pytest.mark.parametrize("apart", [1e-1, 1e-2, 1e-3])
def test_nearly_parallel_rows_cost_no_digits(apart):
    """As the masked copies of a prompt are; the usual formula in float32 is beside it."""
    random = torch.Generator().manual_seed(0)
    shared = torch.randn(1, 768, dtype=torch.float64, generator=random)
    rows = (shared + apart * torch.randn(12, 768, dtype=torch.float64, generator=random)).float()
    exact = rows.double().T @ torch.linalg.pinv(rows.double().T, rtol=1e-12)
    span = basis(rows)
    assert relative(span @ span.T, exact) < 1e-9
    if apart == 1e-3:
        plain = rows.T @ torch.linalg.pinv(rows @ rows.T) @ rows
        assert relative(plain, exact) > 1e-3


def test_pooled_embeddings_do_not_depend_on_what_is_encoded_with_them(tiny, monkeypatch):
    texts = ["cat", "", "a painting in the style of van gogh", "the parachute", "a " * 75]
    ids = contents(tiny, texts)
    assert [len(row) for row in ids][1::3] == [0, 75]
    together = pooled(tiny, ids)
    states = tiny.encode(texts).tokens
    for row, own, state in zip(ids, together, states, strict=True):
        assert relative(own, state[len(row) + 1]) < 1e-5
    monkeypatch.setattr("unlearn.methods.subspaces.TOKENS", 90)
    assert relative(pooled(tiny, ids), together) < 1e-5


def test_what_replaces_a_trigger_is_in_the_prompts_span_and_off_the_concepts(tiny):
    own = guard(tiny, "nudity", "nude person", alpha=0.0)
    prompts = ["a nude person beside a house", "a photo of a cat"]
    encoded = tiny.encode(prompts)
    prepared = own.prepared(tiny, prompts, encoded)
    for i, ids in enumerate(contents(tiny, prompts)):
        masked = pooled(tiny, [[*ids[:j], 0, *ids[j + 1 :]] for j in range(len(ids))])
        triggers = outstanding(off(masked, own.span).norm(dim=1), 0.0)
        assert 0 < triggers.sum() < len(ids)
        safe = prepared.branches(0, prompts, [encoded, encoded])[1].tokens[i]
        kept = torch.ones(len(safe), dtype=torch.bool)
        kept[1 : len(ids) + 1] = ~triggers
        assert torch.equal(safe[kept], encoded.tokens[i][kept])
        rows = safe[~kept].double()
        assert (rows @ own.span).norm() < 1e-5 * rows.norm()
        expected = off(onto(encoded.tokens[i][~kept].double(), basis(masked)), own.span)
        assert relative(rows, expected) < 1e-5


def test_a_planted_concept_is_found():
    random = torch.Generator().manual_seed(0)
    concept = torch.randn(1, 32, dtype=torch.float64, generator=random)
    # Every copy speaks of the concept but the one in which the fourth token is masked.
    masked = torch.randn(6, 32, dtype=torch.float64, generator=random) * 0.1 + concept
    masked[3] -= concept[0] - 0.5 * torch.randn(32, dtype=torch.float64, generator=random)
    tokens = torch.randn(8, 32, dtype=torch.float64, generator=random)
    found = Replacement.of(tokens, masked, basis(concept), 0.01)
    assert found.triggers.tolist() == [False] * 3 + [True] + [False] * 2
    assert 0 < found.beta < 2


def test_without_triggers_it_is_the_negative_prompt_alone(tiny):
    prompts = ["a nude person beside a house", "a cat and a dog"]
    never = guard(tiny, "nudity", alpha=1e9, negative="nudity", re_attention=[0.9, 0.2])
    before = tiny.forwards
    found = images(tiny, prompts, never)
    assert tiny.forwards - before == 2 * 4 * 2
    expected = configured("negative_prompt").wording
    assert expected.template == "{}"
    from unlearn.methods.guards.negative_prompt import NegativePromptGuard

    assert torch.equal(found, images(tiny, prompts, NegativePromptGuard(text="nudity")))


def test_prompts_of_none_one_and_as_many_tokens_as_there_is_room_for(tiny):
    prompts = ["", "cat", "cat " * 75]
    assert [len(ids) for ids in contents(tiny, prompts)] == [0, 1, 75]
    own = guard(tiny, "nudity", last_step=9)
    encoded = tiny.encode(prompts)
    parts = own.prepared(tiny, prompts, encoded).branches(0, prompts, [encoded, encoded])
    changed = (parts[1].tokens != encoded.tokens).any(dim=2)
    assert not changed[0].any()
    assert changed[1].tolist() == [False, True] + [False] * 75
    assert not changed[2][[0, 76]].any()
    assert images(tiny, prompts, own).isfinite().all()
    with pytest.raises(ConfigError, match="1 of 2 are too long"):
        images(tiny, ["cat " * 76], own)


def test_every_prompt_has_its_own_gate(tiny):
    """In one batch: one prompt is guarded to its last step, another a step longer, a third not at all."""
    prompts = ["a nude person", "a photo of a cat", ""]
    own = guard(tiny, "nudity", re_attention=[0.5, 0.5])
    encoded = tiny.encode(prompts)
    prepared = own.prepared(tiny, prompts, encoded)
    plans = prepared._plans
    plans[prompts[0]] = replace(plans[prompts[0]], last=1)
    plans[prompts[1]] = replace(plans[prompts[1]], last=2)
    for index, guarded in enumerate([(0, 1), (0, 1), (1,), ()]):
        parts = prepared.branches(index, prompts, [encoded, encoded])
        assert len(parts) == (3 if guarded else 2)
        changed = (parts[1].tokens != encoded.tokens).flatten(1).any(dim=1)
        assert changed.tolist() == [i in guarded for i in range(3)]
        active = prepared._held.active
        assert (active is None) if not guarded else (active.tolist() == [i in guarded for i in range(3)])


@pytest.mark.parametrize("re_attention", [None, [0.9, 0.2]])
def test_images_do_not_depend_on_their_batch(tiny, re_attention):
    prompts = ["a nude person", "a cat", "a church beside a house", "", "a nude person", "a cat and a dog"]
    own = guard(tiny, "nudity", "nude person", alpha=0.0, limit=4, re_attention=re_attention)
    together = images(tiny, prompts, own, batch_size=6)
    alone = images(tiny, prompts, own, batch_size=1)
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize(("re_attention", "forwards"), [(None, 8), ([0.9, 0.2], 2 * 3 + 2 * 2)])
def test_a_third_branch_only_where_re_attention_is_at_work(tiny, re_attention, forwards):
    own = guard(tiny, "nudity", last_step=1, re_attention=re_attention)
    before = tiny.forwards
    images(tiny, ["nude"], own)
    assert tiny.forwards - before == forwards


def test_all_masked_copies_go_through_the_text_encoder_together(tiny, monkeypatch):
    prompts = ["a nude person", "a cat", "a nude person", "a church beside a house"]
    own, runs = guard(tiny, "nudity"), []
    encode = type(tiny).encode_embeddings

    def counted(self, embeddings, ends=None):
        runs.append(embeddings.shape[:2])
        return encode(self, embeddings, ends)

    monkeypatch.setattr(type(tiny), "encode_embeddings", counted)
    images(tiny, prompts, own, batch_size=1)
    lengths = [len(ids) for ids in contents(tiny, dict.fromkeys(prompts))]
    assert runs == [(4, 77), (sum(lengths), max(lengths) + 2)]  # the prompts and the empty one; the copies


def test_a_guard_that_does_not_know_the_prompts_is_refused(tiny):
    own, cat, empty = guard(tiny, "nudity"), tiny.encode(["a cat"]), tiny.encode([""])
    with pytest.raises(ValueError, match="has not been prepared"):
        sample(tiny, cat, empty, [0], sampler(), own)
    with pytest.raises(ValueError, match="has not been prepared"):
        sample(tiny, cat, empty, [0], sampler(), own, prompts=["a cat"])


def test_it_spans_the_concepts_phrases_and_names_them_as_negative_prompt(tiny, context):
    concepts = concept_set("church", "apple")
    found = configured("safree", world="pocket").erase(tiny, concepts, context)
    assert found.guard.negative == "a church, an apple"
    assert found.guard.span.shape == (32, 2)
    assert found.history == [{"rank": 2.0}]
    rows = pooled(tiny, contents(tiny, ["a church", "an apple"]))
    assert relative(onto(rows, found.guard.span), rows) < 1e-9
    alone = configured("safree_released", "negative_prompt=false").erase(tiny, concepts, context).guard
    assert (alone.negative, alone.re_attention) == (None, None)


def test_of_several_kinds_the_longer_guard_counts(tiny, context):
    object_, nudity = concept_set("church"), concept_set("nude", kind="nudity")
    both = ConceptSet(erase=object_.erase | nudity.erase)
    found = configured("safree", world="pocket").erase(tiny, both, context).guard
    assert found.curves == [list(ARTISTS), list(NUDITY)]
    plans = found.prepared(tiny, ["a cat"], tiny.encode(["a cat"]))._plans
    steps = [
        replace(found, curves=[curve]).prepared(tiny, ["a cat"], tiny.encode(["a cat"]))._plans["a cat"].last
        for curve in found.curves
    ]
    assert plans["a cat"].last == max(steps)
    method = configured("safree")
    del method.kinds["nudity"]
    with pytest.raises(ConfigError, match="kinds: for concept 'nude': Unknown kind 'nudity'"):
        method.erase(tiny, both, context)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alpha=-1", "alpha: must be a number from 0 up, got -1.0"),
        (f"alpha={math.nan}", "alpha: must be a number from 0 up, got nan"),
        ("limit=-1", "limit: must be at least 0, got -1"),
        ("last_step=-1", "last_step: must be at least 0, or null, got -1"),
        ("re_attention=[1]", r"re_attention: must be two numbers from 0 to 1, got \[1.0\]"),
        ("re_attention=[1,2]", r"re_attention: must be two numbers from 0 to 1, got \[1.0, 2.0\]"),
        ("kinds.style.steepness=0", "steepness: must be a number above 0, got 0.0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        configured("safree", override)
