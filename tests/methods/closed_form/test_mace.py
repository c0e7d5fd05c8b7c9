"""MACE: both closed forms, the suppression of attention, and what they do together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import concept_set, configured, golden_case, relative

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.closed_form.mace.fusion import Adapter, Kept, fused, refinement
from unlearn.methods.closed_form.mace.mace import MACE
from unlearn.methods.closed_form.mace.suppression import (
    Images,
    Trainer,
    attended,
    drawn,
    looked_at,
    timestep_law,
)
from unlearn.methods.closed_form.solver import mean_gram
from unlearn.methods.method import Context
from unlearn.methods.phrases import aligned, phrases
from unlearn.methods.training import loop as training
from unlearn.models.weights.adapters import adapted
from unlearn.models.weights.attention import recorded
from unlearn.models.weights.parameters import matching

FEW = ("kinds.object.steps=2", "images=2", "sampler.steps=2")


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# The authors' code -----------------------------------------------------------------------------------------


@pytest.fixture
def prior(golden, golden_tiny):
    case = golden_case(golden, "mace/prior_cache")
    texts = case.inputs["prompts"]
    with torch.no_grad():
        return case, len(texts) * mean_gram(golden_tiny, texts)


@pytest.mark.golden
def test_golden_prior(prior, golden_tiny):
    case, gram = prior
    weights = matching(golden_tiny, "cross_attention_kv")
    tolerance = case.tolerance["*"]["tol"]
    for layer, name in enumerate(case.inputs["layer_order"]):
        values = weights[f"unet.{name}"].double() @ gram
        assert relative(gram, case.tensors[f"{layer}_for_mat2"]) < tolerance
        assert relative(values, case.tensors[f"{layer}_for_mat1"]) < tolerance


def rows_of(model, pairs: list, all_words: bool):
    """Rows and their targets, for each pair of sentences."""
    for olds, news in pairs:
        ids, others = model.tokenize(olds).tolist(), model.tokenize(news).tolist()
        tokens, targets = model.encode(olds).tokens, model.encode(news).tokens
        for row in range(len(olds)):
            old, new = aligned(ids[row], others[row], model.tokenizer.eos_token_id)
            yield (tokens[row], targets[row]) if all_words else (tokens[row, old], targets[row, new])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["cfr_objects", "cfr_allwords", "cfr_noprior"])
@torch.no_grad()
def test_golden_refinement(name, golden, golden_tiny, prior):
    case = golden_case(golden, f"mace/{name}")
    inputs = case.inputs
    gram = prior[1] if inputs["prior_cache"] else torch.zeros_like(prior[1])
    # The release multiplies its scale by itself.
    kept = Kept(gram, inputs["train_preserve_scale"] ** 2, inputs["lamb"])
    matrix, _ = refinement(rows_of(golden_tiny, inputs["prompt_pairs"], inputs["all_words"]), kept)
    weights = matching(golden_tiny, "cross_attention_kv")
    expected, tolerance = case.weights("edited."), case.tolerance["edited.*"]["tol"]
    assert weights.keys() == expected.keys()
    for key, weight in weights.items():
        assert relative(weight.double() @ matrix, expected[key]) < tolerance


@pytest.mark.golden
@pytest.mark.parametrize("name", ["cfr_objects", "cfr_allwords", "cfr_noprior"])
def test_golden_alignment(name, golden, golden_tiny):
    for pair in golden_case(golden, f"mace/{name}").inputs["matching"]:
        old, new = golden_tiny.tokenize([pair["old"], pair["new"]]).tolist()
        first, second = aligned(old, new, golden_tiny.tokenizer.eos_token_id)
        count = len(pair["indices"][0])
        assert [first[:count], second[:count]] == pair["indices"]
        assert max(first[-1], second[-1]) == golden_tiny.max_tokens - 1
        assert first[count:] == list(range(first[count - 1] + 1, first[-1] + 1))


@pytest.mark.golden
@torch.no_grad()
def test_golden_fusion(golden, golden_tiny, prior):
    case = golden_case(golden, "mace/fusion")
    weights = matching(golden_tiny, "cross_attention_kv")
    names = [name.removeprefix("unet.") for name in weights]
    count = len(case.inputs["concepts"])
    adapters = [
        Adapter(*([case.tensors[f"lora_{part}.{i}.{name}"] for name in names] for part in ("down", "up")))
        for i in range(count)
    ]
    rows = [golden_tiny.encode(texts).tokens.flatten(0, 1) for texts in case.inputs["prompts_per_concept"]]
    kept = Kept(prior[1], case.inputs["fuse_preserve_scale"], case.inputs["lamb"])
    identity = torch.eye(rows[0].shape[-1], dtype=torch.float64)
    new, _ = fused([weight.data for weight in weights.values()], identity, adapters, rows, kept)
    expected, tolerance = case.weights("edited."), case.tolerance["edited.*"]["tol"]
    for key, weight in zip(weights, new, strict=True):
        assert relative(weight, expected[key]) < tolerance


def of_batch(positions: list[list[int]], shape: tuple[int, int]) -> torch.Tensor:
    tokens = torch.zeros(shape, dtype=torch.bool)
    for row, token in positions:
        tokens[row, token] = True
    return tokens


@pytest.mark.golden
def test_golden_attention_loss(golden):
    case = golden_case(golden, "mace/attention_loss")
    batch, heads = case.inputs["batch"], case.inputs["heads"]
    maps = [value for key, value in sorted(case.tensors.items()) if key.startswith("attn")]
    shape = batch, maps[0].shape[-1]
    tolerance = case.tolerance["losses (JSON)"]["tol"]

    # The release pairs its rows (sample, then head) with positions in the order head, then sample.
    tokens = of_batch(case.inputs["concept_positions_nomask"], shape).repeat(heads, 1)
    norms = [attended(each[:, None], tokens) for each in maps]
    assert float(sum(norm.norm() for norm in norms)) == pytest.approx(
        case.outputs["loss_no_mask"], rel=tolerance
    )

    tokens = of_batch(case.inputs["concept_positions_mask"], shape)[:1].repeat(batch * heads, 1)
    masks = case.tensors["mask"][0].repeat(batch * heads, 1, 1)
    norms = [attended(each[:, None], tokens, masks) for each in maps]
    assert float(sum(norm.norm() for norm in norms)) == pytest.approx(
        case.outputs["loss_gsam_mask"], rel=tolerance
    )


# Where tokens stand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a photo of a church", "a photo of a dog"),
        ("church beside a house", "dog beside a house"),
        ("a church beside a house", "a garbage truck beside a house"),
        ("sketch of a garbage truck", "sketch of a dog"),
        ("church", ""),
        ("cat and dog and cat", "cat and cat"),
    ],
)
def test_aligned_tokens_agree_and_leave_the_phrases_out(old, new, tiny):
    end = tiny.tokenizer.eos_token_id
    ids, others = tiny.tokenize([old, new]).tolist()
    first, second = aligned(ids, others, end)
    assert len(first) == len(second)
    assert first[0] == second[0] == 0
    assert first == sorted(set(first))
    assert second == sorted(set(second))
    assert [ids[i] for i in first] == [others[i] for i in second]
    assert ids.index(end) in first
    shared = len(set(first) & set(range(ids.index(end) + 1)))
    left_out = ids.index(end) + 1 - shared
    assert len(first) == 77 - max(left_out, left_out + others.index(end) - ids.index(end))


def test_a_sentence_with_itself_shares_all():
    assert aligned([9, 1, 2, 7, 7], [9, 1, 2, 7, 7], 7) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])


def test_tokens_of_a_phrase(tiny):
    concept = replace(concept_set("garbage truck").erase["garbage truck"], templates=["a {} and {a}", "{}"])
    (phrase,) = phrases(tiny, "truck", concept)
    assert phrase.name == "truck: garbage truck"
    ids = tiny.tokenize(phrase.sentences)
    (alone,) = tiny.tokenize(["garbage truck"]).tolist()
    content = alone[1 : alone.index(tiny.tokenizer.eos_token_id)]
    assert ids[0][phrase.own[0]].tolist() == 2 * content
    assert ids[1][phrase.own[1]].tolist() == content
    assert torch.equal(phrase.after, ids == tiny.tokenizer.eos_token_id)
    for (old, _), own in zip(phrase.shared, phrase.own, strict=True):
        assert not own[old].any()


def test_every_phrase_has_its_own_sentences(tiny):
    concept = replace(
        concept_set("church").erase["church"], phrases=["church", "tench"], templates=["a {}", "{}"]
    )
    found = phrases(tiny, "x", concept)
    assert [list(each.sentences) for each in found] == [["a church", "church"], ["a tench", "tench"]]
    assert [list(each.anchored) for each in found] == [["a dog", "dog"]] * 2


def test_a_phrase_that_is_not_in_its_sentence_is_refused_before_anything_is_done(tiny, context):
    church = replace(concept_set("church").erase["church"], templates=["a {}ish house"])
    before = tiny.forwards
    with pytest.raises(ConfigError, match=r"concept.erase.church: the tokens of 'church' are not in"):
        mace().erase(tiny, ConceptSet(erase={"church": church}), context)
    assert tiny.forwards == before


# The closed forms ------------------------------------------------------------------------------------------


def lstsq(rows: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    return torch.linalg.lstsq(rows, outputs, driver="gelsd").solution.T


def test_refinement_is_the_least_squares_solution():
    rows, targets, kept, weight = (
        randn(9, 12),
        randn(9, 12, seed=1),
        randn(30, 12, seed=2),
        randn(5, 12, seed=3),
    )
    pairs = [(rows[:4], targets[:4]), (rows[4:], targets[4:])]
    matrix, measured = refinement(pairs, Kept(kept.T @ kept, 0.3, 0.2))
    identity = torch.eye(12, dtype=torch.float64)
    left = torch.cat([rows, 0.3**0.5 * kept, 0.2**0.5 * identity])
    right = torch.cat([targets, 0.3**0.5 * kept, 0.2**0.5 * identity])
    assert relative(weight @ matrix, lstsq(left, right @ weight.T)) < 1e-10
    assert measured["change"] == pytest.approx(float((matrix - identity).norm()))
    assert measured["residual"] == pytest.approx(relative_to(rows @ matrix.T - targets, rows - targets))
    assert measured["drift"] == pytest.approx(relative_to(kept @ matrix.T - kept, kept))


def relative_to(value: torch.Tensor, unit: torch.Tensor) -> float:
    return float(value.norm() / unit.norm())


def test_an_anchor_that_is_the_concept_leaves_the_identity():
    rows = randn(9, 12)
    matrix, measured = refinement([(rows, rows)], Kept(torch.zeros(12, 12, dtype=torch.float64), 0.0, 0.1))
    assert torch.equal(matrix, torch.eye(12, dtype=torch.float64))
    assert measured["residual"] == measured["drift"] == 0


def test_tokens_before_the_phrase_hold_what_they_were():
    """They are the same in both sentences: nothing to the change, and a weight against it."""
    prefix, rows, targets = randn(6, 24), randn(5, 24, seed=1), randn(5, 24, seed=2)
    kept = Kept(torch.zeros(24, 24, dtype=torch.float64), 0.0, 0.1)
    with_prefix, _ = refinement([(torch.cat([prefix, rows]), torch.cat([prefix, targets]))], kept)
    without, _ = refinement([(rows, targets)], kept)
    drifts = [relative_to(prefix @ (m - torch.eye(24)).T, prefix) for m in (with_prefix, without)]
    assert drifts[0] < 0.2 * drifts[1]


def test_a_relative_ridge_solves_what_has_no_ridge():
    rows = randn(3, 12)
    nothing = torch.zeros(12, 12, dtype=torch.float64)
    with pytest.raises(ConfigError, match="ill-conditioned"):
        refinement([(rows, randn(3, 12, seed=1))], Kept(nothing, 0.0, 0.0))
    _, measured = refinement([(rows, randn(3, 12, seed=1))], Kept(nothing, 0.0, 0.0, relative_ridge=1e-6))
    assert measured["residual"] < 1e-4


@pytest.fixture
def fusion():
    weights = [randn(5, 12, seed=1), randn(7, 12, seed=2)]
    matrix = torch.eye(12, dtype=torch.float64) + 0.1 * randn(12, 12, seed=3)
    adapters = [
        Adapter(
            down=[randn(2, 12, seed=10 * i + 4), randn(2, 12, seed=10 * i + 5)],
            up=[randn(5, 2, seed=10 * i + 6), randn(7, 2, seed=10 * i + 7)],
        )
        for i in range(3)
    ]
    rows = [randn(20, 12, seed=90 + i) for i in range(3)]
    return weights, matrix, adapters, rows


def test_fusion_is_the_least_squares_solution(fusion):
    weights, matrix, adapters, rows = fusion
    kept, scale, ridge = randn(30, 12, seed=8), 0.4, 0.3
    new, _ = fused(weights, matrix, adapters, rows, Kept(kept.T @ kept, scale, ridge))
    identity = torch.eye(12, dtype=torch.float64)
    left = torch.cat([*rows, scale**0.5 * kept, ridge**0.5 * identity])
    for layer, weight in enumerate(weights):
        refined = weight @ matrix
        outputs = [
            own @ (refined + adapter.up[layer] @ adapter.down[layer]).T
            for own, adapter in zip(rows, adapters, strict=True)
        ]
        right = torch.cat([*outputs, scale**0.5 * kept @ weight.T, ridge**0.5 * refined.T])
        assert relative(new[layer], lstsq(left, right)) < 1e-10


def test_one_addition_and_nothing_to_keep_is_kept_whole(fusion):
    weights, matrix, adapters, rows = fusion
    nothing = Kept(torch.zeros(12, 12, dtype=torch.float64), 0.0, 1e-9)
    new, _ = fused(weights, matrix, adapters[:1], rows[:1], nothing)
    for layer, weight in enumerate(weights):
        merged = weight @ matrix + adapters[0].up[layer] @ adapters[0].down[layer]
        assert relative(rows[0] @ new[layer].T, rows[0] @ merged.T) < 1e-8


def test_additions_of_nothing_leave_the_refined_weights(fusion):
    weights, matrix, adapters, rows = fusion
    still = [Adapter(a.down, [torch.zeros_like(up) for up in a.up]) for a in adapters]
    nothing = Kept(torch.zeros(12, 12, dtype=torch.float64), 0.0, 0.1)
    new, _ = fused(weights, matrix, still, rows, nothing)
    for weight, value in zip(weights, new, strict=True):
        assert relative(value, weight @ matrix) < 1e-14
    new, _ = fused(weights, torch.eye(12, dtype=torch.float64), still, rows, nothing)
    assert all(torch.equal(value, weight) for weight, value in zip(weights, new, strict=True))


# Attention -------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_recorded_attention_is_what_the_model_computes(tiny):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts, t = tiny.encode(["a church", "a cat and a dog"]), torch.tensor(300)
    plain = tiny.predict(latents, t, prompts)
    before = [m.processor for n, m in tiny.parts["unet"].named_modules() if n.endswith("attn2")]
    with recorded(tiny) as maps:
        assert torch.allclose(tiny.predict(latents, t, prompts), plain, atol=1e-5)
    after = [m.processor for n, m in tiny.parts["unet"].named_modules() if n.endswith("attn2")]
    assert after == before
    assert len(maps) == len(before)
    for each in maps:
        assert each.shape[0] == 2
        assert each.shape[3] == 77
        assert torch.allclose(each.sum(dim=3), torch.ones(each.shape[:3]), atol=1e-5)


def test_attention_outside_the_mask_or_to_other_tokens_does_not_count():
    maps = torch.rand(2, 3, 16, 77, generator=torch.Generator().manual_seed(0))
    tokens = of_batch([[0, 5], [1, 6], [1, 7]], (2, 77))
    masks = torch.zeros(2, 8, 8)
    masks[0, :4], masks[1, :, 4:] = 1, 1
    norms = attended(maps, tokens, masks)
    expected = [maps[0, :, :8, 5].norm(), maps[1].unflatten(1, (4, 4))[:, :, 2:, 6:8].norm()]
    assert torch.allclose(norms, torch.stack(expected))
    changed = maps.clone()
    changed[0, :, 8:] += 1
    changed[:, :, :, 20:] += 1
    assert torch.equal(attended(changed, tokens, masks), norms)
    assert torch.allclose(
        attended(maps, tokens), torch.stack([maps[0, ..., 5].norm(), maps[1, ..., 6:8].norm()])
    )


def test_where_nothing_counts_there_is_no_gradient():
    maps = torch.zeros(1, 2, 16, 77, requires_grad=True)
    attended(maps, of_batch([[0, 5]], (1, 77))).sum().backward()
    assert torch.equal(maps.grad, torch.zeros_like(maps))


def test_timesteps_follow_their_law():
    law = timestep_law("focal", 1000)
    assert float(law.sum()) == pytest.approx(1)
    assert float(law @ torch.arange(1000.0, dtype=torch.float64)) == pytest.approx(300, abs=1)
    assert float(law[200:401].sum()) == pytest.approx(0.86, abs=0.01)
    drawn = torch.multinomial(law, 20000, replacement=True, generator=torch.Generator().manual_seed(0))
    for start in range(0, 1000, 100):
        share = float(law[start : start + 100].sum())
        found = float(((drawn >= start) & (drawn < start + 100)).double().mean())
        assert abs(found - share) < 3 * (share * (1 - share) / 20000) ** 0.5 + 1e-9
    assert torch.allclose(timestep_law("focal", 500), law[::2] / law[::2].sum())
    assert torch.equal(timestep_law("uniform", 4), torch.full((4,), 0.25, dtype=torch.float64))


@pytest.fixture
def trainer(tiny, context):
    def make(*names: str, batch_size: int = 8, scratch: str = "a") -> Trainer:
        found = [phrase for name in names for phrase in phrases(tiny, name, concept_set(name).erase[name])]
        method = mace("kinds.object.lr=1e-3", "kinds.object.steps=3")
        folder = context.scratch / scratch
        folder.mkdir(exist_ok=True)
        own = replace(context, scratch=folder)
        weights = matching(tiny, "cross_attention_kv")
        return Trainer(
            model=tiny,
            shapes={name: tuple(weight.shape) for name, weight in weights.items()},
            phrases=found,
            images=drawn(tiny, found, 2, "attention", method.sampler, own),
            how=method.kinds["object"],
            rank=1,
            batch_size=batch_size,
            context=own,
        )

    return make


def test_an_addition_starts_as_none_and_its_gradient_is_its_own(tiny, trainer):
    one = trainer("church")
    vector = torch.nn.Parameter(one.start(one.phrases[0]))
    factors = one.factors(vector[None])
    assert factors.keys() == matching(tiny, "cross_attention_kv").keys()
    assert all(not up.any() for _, up in factors.values())
    assert float(torch.cat([down.detach().flatten() for down, _ in factors.values()]).std()) == pytest.approx(
        1, abs=0.1
    )
    latents, t, prompt = one.images.latents[0], torch.tensor(300), tiny.encode(["a church", "church"])
    with torch.no_grad():
        plain = tiny.predict(latents, t, prompt)
        with adapted(tiny, factors):
            assert torch.equal(tiny.predict(latents, t, prompt), plain)
        moved = one.factors(vector[None] + 0.1)
        with adapted(tiny, moved):
            assert not torch.allclose(tiny.predict(latents, t, prompt), plain, atol=1e-3)
    first = one.loss(vector[None], [0], 0)
    (gradient,) = torch.autograd.grad(first, vector)
    with torch.no_grad():
        assert one.loss(vector[None] - 1e-2 * gradient / gradient.norm(), [0], 0) < first
    assert not any(p.requires_grad or p.grad is not None for _, p in tiny.named_parameters())


@torch.no_grad()
def test_additions_are_those_of_merged_weights_sample_by_sample(tiny, trainer):
    two = trainer("church", "cat")
    vectors = torch.stack([two.start(phrase) for phrase in two.phrases])
    vectors = vectors + 0.01 * torch.randn(vectors.shape, generator=torch.Generator().manual_seed(0))
    factors = two.factors(vectors)
    latents, t, prompts = two.images.latents[:, 0], torch.tensor(300), tiny.encode(["church", "cat"])
    with adapted(tiny, factors):
        together = tiny.predict(latents, t, prompts)
    from unlearn.models.erasure import Erasure

    own = matching(tiny, "cross_attention_kv")
    for i in range(2):
        merged = {name: own[name] + up[i] @ down[i] for name, (down, up) in factors.items()}
        with tiny.erased(Erasure(weights=merged)):
            alone = tiny.predict(latents[i : i + 1], t, prompts[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-4)


def flat(adapter: Adapter) -> torch.Tensor:
    return torch.cat([factor.flatten() for factor in [*adapter.down, *adapter.up]])


def test_phrases_trained_together_are_what_they_are_alone(trainer):
    together, history = trainer("church", "cat", scratch="t").train(0.01, 1.0)
    apart, long = trainer("church", "cat", batch_size=1, scratch="u").train(0.01, 1.0)
    (alone,), _ = trainer("cat", scratch="v").train(0.01, 1.0)
    start = trainer("cat", scratch="w")
    assert len(history) == 3
    assert len(long) == 6
    for a, b in zip(together, apart, strict=True):
        assert torch.allclose(flat(a), flat(b), atol=2e-4)
    assert torch.equal(flat(apart[1]), flat(alone))
    fresh = start.factors(start.start(start.phrases[0])[None]).values()
    before = Adapter([down[0] for down, _ in fresh], [up[0] for _, up in fresh])
    assert (flat(alone) - flat(before)).abs().max() > 1e-3


def test_the_gradient_of_each_phrase_is_clipped_on_its_own(trainer):
    two = trainer("church", "cat")
    vectors = [torch.nn.Parameter(two.start(phrase)) for phrase in two.phrases]
    free = torch.autograd.grad(two.loss(torch.stack(vectors), [0, 1], 0), vectors)
    limit = 0.5 * float(free[0].norm())
    clipped = two.gradients(vectors, 0, limit).gradients
    assert float(clipped[0].norm()) == pytest.approx(limit, rel=1e-4)
    for gradient, own in zip(clipped, free, strict=True):
        assert float(gradient.norm()) == pytest.approx(min(limit, float(own.norm())), rel=1e-4)


@torch.no_grad()
def test_masks_are_where_attention_is_high(tiny):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = tiny.encode(["a church", "a cat"])
    tokens = of_batch([[0, 2], [1, 2]], (2, 77))
    masks = [
        looked_at(tiny, latents, prompts, tokens, [torch.Generator().manual_seed(seed) for seed in (1, 2)])
        for _ in "ab"
    ]
    assert torch.equal(*masks)
    assert masks[0].shape == (2, 8, 8)
    assert set(masks[0].unique().tolist()) <= {0.0, 1.0}
    assert (masks[0].sum(dim=(1, 2)) > 0).all()


# The whole method ------------------------------------------------------------------------------------------


def mace(*overrides: str) -> MACE:
    return configured("mace", *FEW, *overrides)


def test_no_forward_is_wasted(tiny, context):
    """Two a step of each image, one for its mask, and one for each step of training."""
    before = tiny.forwards
    mace("kinds.object.steps=3").erase(tiny, concept_set("church", "cat"), context)
    assert tiny.forwards - before == 2 * (2 * (2 * 2 + 1) + 3)


def test_both_stages_take_part(tiny, context):
    """A refined model is mapped away from its concept; additions change it further."""
    values = []
    for i, lr in enumerate(("1e-6", "1e-2")):
        folder = context.scratch / str(i)
        folder.mkdir()
        own = replace(context, scratch=folder)
        erasure = mace(f"kinds.object.lr={lr}").erase(tiny, concept_set("church"), own)
        assert {"condition", "residual", "drift", "fusion_condition", "loss"} <= erasure.history[0].keys()
        assert erasure.history[0]["residual"] < 0.9
        values.append(erasure.weights)
    assert max(relative(values[1][name], values[0][name]) for name in values[0]) > 1e-3


def test_the_prior_holds_what_is_retained(tiny, context):
    drifts = [
        mace(f"kinds.object.refine_prior={scale}")
        .erase(tiny, concept_set("church"), context)
        .history[0]["drift"]
        for scale in (0.0, 1e-3, 1e-1)
    ]
    assert drifts[0] > 2 * drifts[1] > 4 * drifts[2] > 0


def test_an_interrupted_training_ends_as_an_undisturbed_one(tiny, context, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    method = mace("kinds.object.steps=3", "kinds.object.lr=1e-2", "batch_size=1")
    concepts = concept_set("church", "cat")
    whole = method.erase(tiny, concepts, context)
    (tmp_path / "other").mkdir()

    def stop(_values, step: int):
        if step == 4:
            raise KeyboardInterrupt

    broken = replace(context, scratch=tmp_path / "other", log=stop)
    with pytest.raises(KeyboardInterrupt):
        method.erase(tiny, concepts, broken)
    before = tiny.forwards
    resumed = method.erase(tiny, concepts, replace(broken, log=context.log))
    assert tiny.forwards - before == 2
    assert resumed.history == whole.history
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_kinds_have_their_own_steps_and_share_one_system(tiny, context):
    church = concept_set("church").erase["church"]
    painter = concept_set("van gogh", kind="style").erase["van gogh"]
    logged: list[int] = []
    own: Context = replace(context, log=lambda _values, step: logged.append(step))
    method = mace("kinds.style.steps=3", "kinds.style.ridge=50")
    both = ConceptSet(erase={"church": church, "painter": painter})
    history = method.erase(tiny, both, own).history
    assert [row["step"] for row in history] == [0, 1, 2, 3, 4]
    assert sorted(set(logged)) == [0, 1, 2, 3, 4]
    assert history[0]["lr"] == method.kinds["object"].lr
    assert history[4]["lr"] == method.kinds["style"].lr
    del method.kinds["style"]
    with pytest.raises(ConfigError, match=r"method.kinds: for concept 'painter': Unknown kind 'style'"):
        method.erase(tiny, both, own)


def test_without_anything_to_retain(tiny, context):
    erasure = mace().erase(tiny, concept_set("church", retain=[]), context)
    assert erasure.history[0]["drift"] == 0


def test_the_release_multiplies_the_prior_by_itself():
    right, released = configured("mace"), configured("mace_released")
    for name, kind in right.kinds.items():
        assert released.kinds[name].refine_prior == pytest.approx(kind.refine_prior**2)
        assert released.kinds[name].fuse_prior == kind.fuse_prior


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kinds.object.lr=0", "lr: must be a number above 0"),
        ("kinds.object.steps=0", "steps: must be at least 1"),
        ("kinds.object.timesteps=local", "timesteps: Unknown timesteps 'local'.*focal"),
        ("kinds.object.masks=sam", "masks: Unknown masks 'sam'.*attention"),
        ("kinds.object.ridge=-1", "ridge: must be a number from 0 up"),
        ("kinds.object.fuse_prior=-1", "fuse_prior: must be a number from 0 up"),
        ("relative_ridge=-1", "relative_ridge: must be a number from 0 up"),
        ("rank=0", "rank: must be at least 1"),
        ("clip_norm=0", "clip_norm: must be a number above 0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        configured("mace", override)


def test_images_are_drawn_once(tiny, context):
    found = phrases(tiny, "church", concept_set("church").erase["church"])
    sampler = mace().sampler
    first = drawn(tiny, found, 3, "full", sampler, context)
    before = tiny.forwards
    second = drawn(tiny, found, 3, "full", sampler, context)
    assert tiny.forwards == before
    assert isinstance(second, Images)
    assert torch.equal(first.latents, second.latents)
    assert first.latents.shape == (1, 3, 4, 8, 8)
    assert torch.equal(first.masks, torch.ones(1, 3, 8, 8))
    assert not torch.equal(first.latents[0, 0], first.latents[0, 1])
