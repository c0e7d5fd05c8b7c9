"""TRCE: the map of its first stage, and what its second stage trains on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import concept_set, configured, golden_case, interrupted, relative

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.closed_form.solver import TextRows, mean_gram
from unlearn.methods.closed_form.trce import trce
from unlearn.methods.closed_form.trce.steering import contrast, distance
from unlearn.models.model import Conditioning
from unlearn.models.weights.parameters import matching, select

SMALL = (
    "steering.kinds=[object]",
    "steering.steps=4",
    "steering.batch_size=2",
    "steering.preserve_batch_size=3",
    "steering.states=2",
    "steering.early=3",
    "steering.sampler.steps=4",
    "steering.optimizer.lr=1e-3",
)


def small(*overrides: str, name: str = "trce") -> trce.TRCE:
    return configured(name, *SMALL, *overrides)


def golden_concepts(inputs) -> ConceptSet:
    """The case's concepts, each in the sentences that the script made for it."""
    found = {}
    for phrase, anchor in inputs["concepts"][: inputs["concept_num"]]:
        pairs = [pair for pair in inputs["pairs"] if pair["old"][1] == phrase]
        templates = [pair["old"][0].replace(phrase, "{}") for pair in pairs]
        assert [template.format(anchor) for template in templates] == [pair["new"][0] for pair in pairs]
        found[phrase] = Concept(
            kind="object",
            phrases=[phrase],
            anchor=anchor,
            retain=[],
            prompts=None,
            detector="judge",
            labels=["x"],
            templates=templates,
        )
    return ConceptSet(erase=found)


def golden_method(inputs, captions, **changes) -> trce.TRCE:
    assert inputs["lamb"] == 0, "ours has a relative ridge"
    method = configured("trce_released", "steering=null", "relative_ridge=0")
    method.sentences = len(inputs["pairs"])
    method.token_weights = dict(zip(trce.GROUPS, inputs["token_weight_scale"], strict=True))
    # The release multiplies a sum over captions and divides it by 30,000; ours is a mean.
    share = len(captions) * inputs["prior_cache_factor"] / 3e4
    method.preserve_scale = {"object": inputs["preserve_scale"] ** 2 * share}
    return replace(method, **changes)


CASES = ["default_weights", "all_token_weights", "no_augment"]


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_golden(name, golden, golden_tiny, context, monkeypatch):
    case, cache = golden_case(golden, f"trce/{name}"), golden_case(golden, "mace/prior_cache")
    captions = cache.inputs["prompts"]
    found = mean_gram(golden_tiny, captions)
    assert relative(found, cache.tensors["0_for_mat2"] / len(captions)) < 10 * cache.bound("0_for_mat2")
    monkeypatch.setattr(trce, "captions", lambda *_: captions)
    erasure = golden_method(case.inputs, captions).erase(golden_tiny, golden_concepts(case.inputs), context)
    expected = case.weights("edited.")
    assert erasure.weights.keys() == expected.keys()
    worst = max(relative(erasure.weights[key], expected[key]) for key in expected)
    assert worst < case.tolerance["edited.*"]["tol"]


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES)
def test_golden_against_stacked_least_squares_in_float64(name, golden, golden_tiny, context, monkeypatch):
    """With true positions: what the release means, and not what it does where words have several tokens."""
    case, cache = golden_case(golden, f"trce/{name}"), golden_case(golden, "mace/prior_cache")
    inputs, captions = case.inputs, cache.inputs["prompts"]
    monkeypatch.setattr(trce, "captions", lambda *_: captions)
    method = golden_method(inputs, captions, index="exact", relative_ridge=1e-6)
    erasure = method.erase(golden_tiny, golden_concepts(inputs), context)

    left, right, final = [], [], golden_tiny.max_tokens - 1
    several = False  # whether a sentence has words of several tokens, which the release miscounts
    for pair in inputs["pairs"]:
        (old, phrase), (new, _) = pair["old"], pair["new"]
        with torch.no_grad():
            e, target = golden_tiny.encode([old, new]).tokens.double()
        ids, new_ids, own = golden_tiny.tokenize([old, new, phrase]).tolist()
        eos = golden_tiny.tokenizer.eos_token_id
        end, new_end, wanted = ids.index(eos), new_ids.index(eos), own[1 : own.index(eos)]
        several |= end != len(old.split()) + 1 or new_end != len(new.split()) + 1
        at = next(i for i in range(len(ids)) if ids[i : i + len(wanted)] == wanted)
        w = inputs["token_weight_scale"]
        weighted = [(0, 0, w[0]), (end, new_end, w[1]), (final, final, w[2] * (final - end))]
        for a, b, weight in [*weighted, *((at + i, final, w[3]) for i in range(len(wanted)))]:
            scale = (weight / len(inputs["pairs"])) ** 0.5
            left.append(scale * e[a])
            right.append(scale * target[b])
    with torch.no_grad():
        kept = golden_tiny.encode(captions).tokens.double().flatten(0, 1)
    kept = kept * (method.preserve_scale["object"] / len(captions)) ** 0.5
    rows = torch.cat([torch.stack(left), kept])
    ridge = (1e-6 * rows.square().sum() / rows.shape[1]).sqrt() * torch.eye(rows.shape[1])
    rows, goals = torch.cat([rows, ridge]), torch.cat([torch.stack(right), kept, ridge])
    released = case.weights("edited.")
    originals = matching(golden_tiny, method.parameters)
    for key, weight in originals.items():
        exact = torch.linalg.lstsq(rows, goals @ weight.detach().double().T, driver="gelsd").solution.T
        assert relative(erasure.weights[key], exact) < 1e-6
        if several:
            assert relative(released[key], exact) > 0.01


def test_the_first_stage_is_the_least_squares_solution(tiny):
    method, concepts = small("steering=null"), concept_set("church", "a cat")
    rows, prior, solution = method.solved(tiny, concepts)
    values, vectors = torch.linalg.eigh(prior)
    kept = values.clamp(min=0).sqrt()[:, None] * vectors.T
    ridge = method.relative_ridge * float(rows.erased.square().sum() + prior.trace()) / 32
    root = ridge**0.5 * torch.eye(32, dtype=torch.float64)
    left, right = torch.cat([rows.erased, kept, root]), torch.cat([rows.targets, kept, root])
    expected = torch.linalg.lstsq(left, right, driver="gelsd").solution.T
    matrix = solution.map(rows.erased, rows.targets)
    assert relative(matrix, expected) < 1e-6
    distances = (rows.erased @ matrix.T - rows.targets).norm() / (rows.erased - rows.targets).norm()
    assert distances < 0.1
    assert trce.drift(matrix, prior) == pytest.approx(relative(kept @ matrix.T, kept))


@pytest.mark.parametrize("name", ["church", "nudity", "neon"])
def test_the_start_token_moves_less_than_captions_do(name):
    """On a trained text encoder: it is in every caption, and so the best held of all tokens."""
    from unlearn.api import configure, load_model

    config = configure("method=trce_stage1", f"concept={name}")
    model = load_model(config.model)
    with torch.no_grad():
        rows, prior, solution = config.method.solved(model, config.concepts)
        start = model.encode([""]).tokens[0, :1].double()
    matrix = solution.map(rows.erased, rows.targets)
    assert relative(start @ matrix.T, start) < trce.drift(matrix, prior) < 0.15
    assert (rows.erased @ matrix.T - rows.targets).norm() < 1e-3 * (rows.erased - rows.targets).norm()


def test_a_pair_weighs_as_much_as_there_are_pairs_and_as_its_kind_is_preserved(tiny):
    method = small("sentences=3")
    one, _, _ = method.solved(tiny, concept_set("church"))
    two, _, _ = method.solved(tiny, concept_set("church", "cat"))
    assert torch.allclose(two.erased[:3], one.erased / 2**0.5)
    method.preserve_scale["object"] *= 4
    weaker, _, _ = method.solved(tiny, concept_set("church"))
    assert torch.allclose(weaker.erased, one.erased / 2)
    assert torch.allclose(weaker.targets, one.targets / 2)


@pytest.mark.parametrize("phrase", ["church", "parachute of nudity", "xylophone"])
def test_the_exact_index_is_the_first_end_token(phrase, tiny):
    method, concepts = small("sentences=30"), concept_set(phrase)
    concept = concepts.erase[phrase]
    rows, _, _ = method.solved(tiny, concepts)
    scale = (30 * method.preserve_scale["object"]) ** -0.5
    for row, target, (old, new) in zip(rows.erased, rows.targets, concept.sentence_pairs(), strict=True):
        ids = tiny.tokenize([old, new])
        ends = (ids == tiny.tokenizer.eos_token_id).int().argmax(dim=1)
        with torch.no_grad():
            tokens = tiny.encode([old, new]).tokens.double()
        assert torch.allclose(row, scale * tokens[0, ends[0]], rtol=1e-4)
        assert torch.allclose(target, scale * tokens[1, ends[1]], rtol=1e-4)


def test_the_released_index_counts_words(tiny):
    exact, released = small(), small(name="trce_released")
    assert released.steering.optimizer.accumulate
    assert not exact.steering.optimizer.accumulate
    texts = TextRows.encode(tiny, ["a xylophone", "a dog"])
    arguments = (tiny, texts, "xylophone", "a xylophone", "a dog")
    mapped = {"exact": exact._positions(*arguments)[1], "released": released._positions(*arguments)[1]}
    assert mapped["released"] == (3, 3, 1.0)
    assert mapped["exact"] == (texts.last["a xylophone"] + 1, texts.last["a dog"] + 1, 1.0)
    assert mapped["exact"][0] > 3


def test_stage_one_alone_is_a_map_and_stage_two_adds_self_attention_and_queries(tiny, context):
    method, concepts = small(), concept_set("church")
    both = method.erase(tiny, concepts, context)
    alone = small("steering=null").erase(tiny, concepts, context)
    assert alone.map is not None
    assert both.map is None
    projections = matching(tiny, ["cross_attention_kv"])
    trained = matching(tiny, ["unet.*"])
    names = {name for name in trained if ".attn1." in name or ".attn2.to_q." in name}
    assert both.weights.keys() == {*projections, *names}
    assert all(torch.equal(both.weights[name], alone.weights[name]) for name in projections)
    assert alone.weights.keys() == projections.keys()
    assert both.history[0].keys() >= {"condition", "residual", "drift", "loss"}
    assert len(both.history) == 4


def test_kinds_without_a_second_stage_have_the_first_alone(tiny, context):
    method = small("steering.kinds=[nudity]")
    erasure = method.erase(tiny, concept_set("church"), context)
    assert erasure.map is not None
    mixed = ConceptSet(
        erase=concept_set("church").erase | concept_set("nude person", anchor="person", kind="nudity").erase
    )
    assert method.steering.pairs(mixed) == [("a photo of nude person", "a photo of person")]


def predictions(seed: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=random) for _ in range(4)]


def test_the_distance_is_the_difference_of_the_two_mean_squares():
    safe, bad, empty, u = predictions(0)
    prefer, reject = (x + 15 * (x - empty) for x in (safe, bad))
    u.requires_grad_()
    value = distance(u, *contrast(safe, bad, empty, 15.0))
    expected = (u - prefer).square().mean((1, 2, 3)) - (u - reject).square().mean((1, 2, 3))
    assert torch.allclose(value, expected, rtol=1e-12)
    gradient = torch.autograd.grad((value + 0.01).clamp(min=0).sum(), u)[0]
    active = (value + 0.01 > 0).reshape(-1, 1, 1, 1)
    assert relative(gradient, active * 2 * 16 * (bad - safe) / safe[0].numel()) < 1e-12
    assert torch.allclose(distance(u, *contrast(bad, safe, empty, 15.0)), -value, rtol=1e-12)


def test_no_gradient_beyond_the_margin_and_the_margin_at_the_middle():
    safe, bad, empty, _ = predictions(1)
    prefer, reject = (x + 15 * (x - empty) for x in (safe, bad))
    sides = contrast(safe, bad, empty, 15.0)
    gap = (prefer - reject).square().mean((1, 2, 3))
    assert torch.allclose(distance(prefer, *sides), -gap, rtol=1e-10)
    assert torch.allclose(distance(reject, *sides), gap, rtol=1e-10)
    assert distance((prefer + reject) / 2, *sides).abs().max() < 1e-10
    u = prefer.clone().requires_grad_()
    hinge = (distance(u, *sides) + 0.01).clamp(min=0)
    assert not torch.autograd.grad(hinge.sum(), u)[0].any()


@pytest.fixture
def prepared(tiny, context):
    """A small second stage, its data, the prompts, and the model after the first stage."""
    method, concepts = small(), concept_set("church")
    steering, kept = method.steering, {}
    original = type(steering).loss

    def loss(self, model, data, empty, concept, step):
        kept.update(data=data, empty=empty, concept=concept)
        return original(self, model, data, empty, concept, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(steering), "loss", loss)
        method.erase(tiny, concepts, context)
    return steering, kept["data"], kept["empty"], kept["concept"]


def test_the_data_are_what_the_original_and_the_edited_model_predict(tiny, context, prepared):
    _, data, empty, concept = prepared
    anchor = tiny.encode(["a photo of a dog"])
    with torch.no_grad():
        x, t = data["concept.latents"], data["concept.timesteps"]
        three = [tiny.predict(x, t, one.repeat(len(x))) for one in (anchor, concept, empty)]
        away, offset = contrast(*three, 15.0)
    assert len(x) == 8
    assert set(t.tolist()) <= set(tiny.scheduler("ddim", 4).timesteps[:3].tolist())
    assert torch.allclose(data["concept.away"], away, atol=1e-3)
    assert torch.allclose(data["concept.offset"], offset, rtol=1e-3, atol=1e-3)
    x, t = data["empty.latents"], data["empty.timesteps"]
    assert len(x) == 12
    edited = small("steering=null").erase(tiny, concept_set("church"), context)
    with torch.no_grad():
        original = tiny.predict(x, t, empty.repeat(12))
        with tiny.erased(edited):
            held = tiny.predict(x, t, empty.repeat(12))
    assert torch.allclose(data["empty.held"], held, atol=1e-4)
    assert not torch.allclose(held, original, atol=1e-4)


def test_the_loss_of_the_first_step(tiny, context, prepared):
    """On the model after the first stage nothing is lost without a prompt; the hinge is what is left."""
    steering, data, empty, concept = prepared
    edited = small("steering=null").erase(tiny, concept_set("church"), context)
    with tiny.erased(edited), torch.no_grad():
        value = steering.loss(tiny, data, empty, concept, 0)
        x, t = data["concept.latents"][:2], data["concept.timesteps"][:2]
        hinge = sum(
            (
                distance(
                    tiny.predict(x, t, one.repeat(2)), data["concept.away"][:2], data["concept.offset"][:2]
                )
                + 0.01
            )
            .clamp(min=0)
            .mean()
            for one in (concept, empty)
        )
    assert float(value) == pytest.approx(float(hinge) / 2, rel=1e-3, abs=1e-5)
    assert float(hinge) > 0


def test_no_forward_is_wasted(tiny, context):
    before = tiny.forwards
    small("steering.states=4", "steering.early=4").erase(tiny, concept_set("church"), context)
    concept = 2 * 4 * 2 + 8  # two trajectories in two branches, and the anchor's prediction on their latents
    empty = 3 * 4 + 12  # three trajectories in one branch, and the edited model's prediction
    training = 4 * (2 * 2 + 3)
    assert tiny.forwards - before == concept + empty + training


def test_steering_moves_the_prediction_towards_the_anchor(tiny, context):
    method = small("steering.steps=12", "steering.optimizer.lr=1e-2", "steering.preserve_scale=0.1")
    history = method.erase(tiny, concept_set("church"), context).history
    losses = [values["loss"] for values in history]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    method = small(name="trce_released")
    interrupted(tiny, method, concept_set("church"), tmp_path, monkeypatch, 2, says="loss")


@torch.no_grad()
def test_unedited_projections_see_the_original_embeddings_through_the_map(tiny, context):
    erasure = small("steering=null").erase(tiny, concept_set("church"), context)
    tokens = tiny.encode(["a photo of a church"]).tokens
    latents, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(500)
    with tiny.erased(erasure):
        edited = tiny.predict(latents, t, Conditioning(tokens))
    through = tiny.predict(latents, t, Conditioning((tokens.double() @ erasure.map.T).float()))
    original = tiny.predict(latents, t, Conditioning(tokens))
    assert relative(edited, original) > 1e-3
    assert relative(edited, through) < 0.01 * relative(edited, original)


def test_original_predictions_are_there_while_two_selections_are_open(tiny):
    with select(tiny, ["cross_attention_kv"]) as outer, select(tiny, ["unet.*attn1.*"]) as inner:
        assert not any(parameter.requires_grad for parameter in outer.parameters.values())
        assert all(parameter.requires_grad for parameter in inner.parameters.values())


def test_a_kind_without_a_weight_is_named(tiny, context):
    method = small()
    del method.preserve_scale["object"]
    with pytest.raises(ConfigError, match="preserve_scale: for concept 'church': Unknown kind 'object'"):
        method.erase(tiny, concept_set("church"), context)


def test_a_phrase_that_the_tokenizer_joins_with_its_neighbours_is_named(tiny, context):
    concepts = concept_set("church")
    concepts.erase["church"].templates = ["a {}goer", "{}"]
    with pytest.raises(ConfigError, match="tokens of 'church' do not stand in those of 'a churchgoer'"):
        small("token_weights.phrase=1").erase(tiny, concepts, context)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("index=whitspace", "index: Unknown index 'whitspace'. Did you mean 'whitespace'"),
        ("token_weights.first_end=0", "token_weights: one must be above 0"),
        ("token_weights.first_end=-1", "token_weights.first_end: must be a number from 0 up"),
        ("sentences=0", "sentences: must be at least 1"),
        ("preserve_scale.object=0", "preserve_scale.object: must be a number above 0"),
        ("relative_ridge=-1", "relative_ridge: must be a number from 0 up"),
        ("steering.states=4", "states: a trajectory has 3 early steps, got 4"),
        ("steering.early=5", "early: must be from 1 to the 4 steps of a trajectory, got 5"),
        ("steering.eta=-1", "eta: must be a number from 0 up"),
        ("steering.kinds=[objekt]", "kinds: Unknown kind of concept 'objekt'"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)


def test_an_unknown_group_of_tokens():
    with pytest.raises(ValueError, match="token_weights: Unknown group 'end'"):
        replace(small(), token_weights={"end": 1.0})
