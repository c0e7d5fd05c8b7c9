"""DUGE: its lessons, its losses, and what becomes of them in a sequence."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import replace
from importlib.resources import files

import pytest
import torch
from method_cases import concept_set, configured, interrupted
from tiny_checkpoint import assert_untouched, state

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import IncompatibleError
from unlearn.methods.training.duge.duge import DUGE, distance
from unlearn.methods.training.duge.lessons import Batch, Course, Lesson
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.weights.attention import outputs
from unlearn.models.weights.parameters import matching, select

SMALL = (
    "steps=6",
    "batch_size=4",
    "prior_batch_size=2",
    "images=4",
    "memory=4",
    "regularisation=10",
    "optimizer.lr=1e-3",
    "sampler.steps=3",
)


def small(*overrides: str) -> DUGE:
    return configured("duge", *SMALL, *overrides)


def line(*earlier: str, now: str = "church", retain=("house",)) -> ConceptSet:
    """One step of a sequence."""
    step = concept_set(now, retain=retain)
    step.earlier = concept_set(*earlier, anchor="tench", retain=retain).erase if earlier else {}
    return step


def course(method: DUGE, model, concepts: ConceptSet, context) -> Course:
    return Course(model, method.lessons(concepts, context), method.sampler, context)


def separate(model, batch: Batch, own: bool) -> tuple[list[list[torch.Tensor]], torch.Tensor]:
    """Blocks' outputs and predictions, one row at a time."""
    asked = batch.own if own else batch.original
    rows, predictions = [], []
    for i in range(len(batch.original)):
        with outputs(model) as found, torch.no_grad():
            latents, timesteps = batch.noised.latents[i : i + 1], batch.noised.timesteps[i : i + 1]
            predictions.append(model.predict(latents, timesteps, asked[[i]]))
        rows.append(found)
    return rows, torch.cat(predictions)


def moved(model, method: DUGE, by: float = 0.05) -> Erasure:
    random = torch.Generator().manual_seed(0)
    return Erasure(
        weights={
            name: weight.detach() + by * torch.randn(weight.shape, generator=random)
            for name, weight in matching(model, method.parameters).items()
        }
    )


@pytest.mark.parametrize("prior", ["noise", "original"])
def test_losses_are_those_of_single_rows_against_the_original(prior, tiny, context):
    method = small(f"prior={prior}", "attention_scale=3", "prior_scale=0.5")
    batch = course(method, tiny, line("cat"), context).batch(tiny, 0, context)
    assert len(batch.noised.latents) == 6
    wanted, original = separate(tiny, batch, own=False)
    trained = moved(tiny, method)
    with tiny.erased(trained):
        found, predicted = separate(tiny, batch, own=True)
    layers = [
        torch.stack([(found[i][layer] - wanted[i][layer]).square().mean() for i in range(4)]).mean()
        for layer in range(7)
    ]
    target = batch.noised.target if prior == "noise" else original
    with select(tiny, method.parameters) as selection:
        for name, weight in trained.weights.items():
            selection.parameters[name].data.copy_(weight)
        losses = method.losses(tiny, selection, batch)
        gradients = torch.autograd.grad(sum(losses.values()), list(selection.parameters.values()))
    assert losses["attention"].item() == pytest.approx(3 * torch.stack(layers).mean().item(), rel=1e-4)
    expected = 0.5 * (predicted - target)[4:].square().mean().item()
    assert losses["prior"].item() == pytest.approx(expected, rel=1e-4)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_nothing_is_lost_where_the_original_is_told_the_same(tiny, context):
    method = small("prior=original")
    batch = course(method, tiny, line(), context).batch(tiny, 0, context)
    same = replace(batch, own=batch.original)
    with select(tiny, method.parameters) as selection:
        losses = method.losses(tiny, selection, same)
        different = method.losses(tiny, selection, batch)
    assert losses["attention"].item() == losses["prior"].item() == 0
    assert different["attention"].item() > 0


def test_the_reference_stays_the_original_whatever_went_before(tiny, context, monkeypatch):
    """Bit for bit, after updates, and although the trained weights began elsewhere."""
    method = small("prior=original", "optimizer.lr=1e-2")
    told = []
    losses = DUGE.losses

    def spied(self, model, selection, batch):
        with selection.original(), outputs(model) as blocks:
            prediction = model.predict(batch.noised.latents, batch.noised.timesteps, batch.original)
        told.append((batch, prediction, list(blocks)))
        assert all(p.requires_grad for p in selection.parameters.values())
        return losses(self, model, selection, batch)

    monkeypatch.setattr(DUGE, "losses", spied)
    method.continued(tiny, line("cat"), context, moved(tiny, method))
    assert len(told) == 6
    for batch, prediction, blocks in told:
        with outputs(tiny) as expected, torch.no_grad():
            again = tiny.predict(batch.noised.latents, batch.noised.timesteps, batch.original)
        assert torch.equal(prediction, again)
        assert all(torch.equal(own, other) for own, other in zip(blocks, expected, strict=True))


def test_trained_is_what_was_selected_and_nothing_else_waits_for_gradients(tiny, context, monkeypatch):
    method, open_parameters = small(), set()
    losses = DUGE.losses

    def spied(self, model, selection, batch):
        open_parameters.update(name for name, p in model.named_parameters() if p.requires_grad)
        return losses(self, model, selection, batch)

    monkeypatch.setattr(DUGE, "losses", spied)
    erasure = method.erase(tiny, line(), context)
    assert open_parameters == matching(tiny, ["cross_attention_kv"]).keys() == erasure.weights.keys()


def test_earlier_concepts_are_in_every_batch(tiny, context):
    method, concepts = small(), line("cat", "garbage truck")
    lessons = method.lessons(concepts, context)
    own, earlier, memory = lessons
    assert [lesson.rows for lesson in lessons] == [2, 2, 2]
    assert {old for told in own.told for old in told} <= set(sentences("church", concepts.erase))
    assert all("dog" in text for text in own.drawn)
    assert all("tench" in text for text in earlier.drawn)
    known = {old for told in earlier.told for old in told}
    assert any("cat" in text for text in known)
    assert any("garbage truck" in text for text in known)
    assert all("house" in text for text in memory.drawn)
    found = course(method, tiny, concepts, context)
    for step in range(8):
        told = found.batch(tiny, step, context).own.tokens
        assert is_one_of(tiny, told[2], known)
        assert is_one_of(tiny, told[3], known)
        assert not is_one_of(tiny, told[0], known)


def sentences(name: str, concepts) -> list[str]:
    return [old for old, _ in concepts[name].sentence_pairs()]


def is_one_of(tiny, tokens: torch.Tensor, texts) -> bool:
    with torch.no_grad():
        return any(torch.allclose(tokens, row, atol=1e-5) for row in tiny.encode(sorted(texts)).tokens)


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.25, 1), (0.9, 3)])
def test_the_share_of_earlier_concepts(share, rows, context):
    lessons = small(f"earlier_share={share}").lessons(line("cat"), context)
    assert len(lessons) == 2 + (rows > 0)
    assert lessons[0].rows == 4 - rows
    assert lessons[-2 if rows else 0].rows == (rows or 4)
    assert len(small(f"earlier_share={share}").lessons(line(), context)) == 2


def test_what_is_erased_leaves_the_memory(context):
    from unlearn.concepts.choice import ConceptChoice

    church, cat = (
        concept_set(name, retain=[other, "house"]).erase[name]
        for name, other in [("church", "cat"), ("cat", "church")]
    )
    choice = ConceptChoice(
        name="line",
        worlds={"pocket": ConceptSet(erase={"church": church, "cat": cat})},
        sequence=["church", "cat"],
    )
    first, second = choice.steps("pocket")
    method = small("memory=200", "neighbours=5")
    before, after = (method.lessons(step, context)[-1].drawn for step in (first, second))
    assert any("cat" in text for text in before)
    assert any("house" in text for text in after)
    assert not any("cat" in text or "church" in text for text in after)


def test_the_memory_holds_as_many_neighbours_as_it_is_told(context):
    concepts = line(retain=["house", "tench", "dog"])
    for count, words in ((1, {"house"}), (2, {"house", "tench"})):
        drawn = small(f"neighbours={count}", "memory=500").lessons(concepts, context)[-1].drawn
        assert {word for word in ("house", "tench", "dog") for text in drawn if word in text} == words
    assert small().lessons(line(retain=[]), context)[-1].drawn == [""]


def test_every_image_is_met_in_turn_and_each_phrase_is_told(tiny, context):
    method = small("images=6")
    concepts = concept_set("church")
    concepts.erase["church"].phrases.append("cathedral")
    found = course(method, tiny, concepts, context)
    batches = [found.batch(tiny, step, context) for step in range(6)]
    asked, told = (
        Counter(row.numpy().tobytes() for batch in batches for row in getattr(batch, key).tokens[:4])
        for key in ("original", "own")
    )
    assert sorted(asked.values()) == [4] * 6  # four passes over six images, each of another sentence
    assert len(told) > 6  # one surrogate stands for both phrases
    assert not torch.equal(batches[0].noised.latents, batches[1].noised.latents)
    again = found.batch(tiny, 3, context)
    assert torch.equal(again.noised.latents, batches[3].noised.latents)
    assert torch.equal(again.own.tokens, batches[3].own.tokens)


def test_surrogates_take_turns(context):
    random = context.generator("x")
    few, many = concept_set("cat", anchor="dog").erase["cat"], concept_set("church").erase["church"]
    few.templates = ["{a}, a sketch", "a painting of {a}"]
    many.anchor = "house"
    lesson = Lesson.of_surrogates([few, many], images=6, rows=1, random=random)
    assert len(lesson.drawn) == 6
    assert [("dog" in text) for text in lesson.drawn] == [True, False, True, False, False, False]
    for drawn, told in zip(lesson.drawn, lesson.told, strict=True):
        assert all(t.replace("cat", "dog").replace("church", "house") == drawn for t in told)


@pytest.mark.parametrize(("prior", "earlier"), [("noise", ()), ("original", ("cat",))])
def test_no_forward_is_wasted(prior, earlier, tiny, context, monkeypatch):
    calls = []
    predict = type(tiny).predict

    def counted(self, latents, *rest):
        calls.append(len(latents))
        return predict(self, latents, *rest)

    monkeypatch.setattr(type(tiny), "predict", counted)
    before = tiny.forwards
    small(f"prior={prior}").erase(tiny, line(*earlier), context)
    images = (4 + 4 + 4 * len(earlier)) * 3 * 2
    assert tiny.forwards - before == images + 6 * (6 + (4 if prior == "noise" else 6))
    assert calls[-12:] == 6 * [4 if prior == "noise" else 6, 6]  # one of each role a step


def test_training_nears_the_surrogate_and_regularisation_holds_the_weights(tiny, context, tmp_path):
    def run(name: str, *overrides: str):
        (tmp_path / name).mkdir()
        method = small("steps=40", "optimizer.lr=3e-3", "prior_scale=0", *overrides)
        return method.erase(tiny, line(), replace(context, scratch=tmp_path / name))

    free, held = run("free", "regularisation=0"), run("held", "regularisation=1e6")
    attention = [row["attention"] for row in free.history]
    assert sum(attention[-10:]) < 0.7 * sum(attention[:10])
    own = matching(tiny, ["cross_attention_kv"])
    far, near = (
        sum(float((e.weights[name] - weight).square().sum()) for name, weight in own.items())
        for e in (free, held)
    )
    assert near < 0.1 * far


@pytest.mark.parametrize("reference", ["original", "previous"])
def test_what_the_regularisation_pulls_to(reference, tiny):
    method = small(f"reference={reference}")
    trained = moved(tiny, method)
    with select(tiny, method.parameters) as selection:
        for name, weight in trained.weights.items():
            selection.parameters[name].data.copy_(weight)
        found = distance(selection, method.referred(selection)).item()
    count = sum(weight.numel() for weight in trained.weights.values())
    own = state(tiny)
    squares = sum(float((weight - own[name]).square().sum()) for name, weight in trained.weights.items())
    assert found == pytest.approx(squares / count if reference == "original" else 0, rel=1e-4)


@pytest.mark.parametrize("reference", ["original", "previous"])
def test_interrupted_and_resumed_is_undisturbed(reference, tiny, tmp_path, monkeypatch):
    method = small(f"reference={reference}")
    before, original = moved(tiny, method, by=0.01), state(tiny)
    interrupted(tiny, method, line("cat"), tmp_path, monkeypatch, 2, 4, before=before)
    assert_untouched(tiny, original)


def test_another_seed_another_result_and_storing_changes_nothing(tiny, context, tmp_path):
    found = []
    for seed in (0, 1):
        scratch = tmp_path / str(seed)
        scratch.mkdir()
        found.append(small().erase(tiny, line(), replace(context, seed=seed, scratch=scratch)))
    assert any(not torch.equal(found[0].weights[key], found[1].weights[key]) for key in found[0].weights)
    (tmp_path / "stored").mkdir()
    found[0].save(tmp_path / "stored")
    prompt, x, t = tiny.encode(["church"]), torch.randn(1, 4, 8, 8), torch.tensor(300)
    predictions = []
    for erasure in (found[0], Erasure.load(tmp_path / "stored")):
        with tiny.erased(erasure), torch.no_grad():
            predictions.append(tiny.predict(x, t, prompt))
    assert torch.equal(*predictions)


def test_it_goes_on_from_its_own_weights_only(tiny, context):
    method = small()
    other = Erasure(weights={name: p.detach() + 1 for name, p in matching(tiny, "cross_attention").items()})
    for before in (other, Erasure(guard=Guard())):
        with pytest.raises(IncompatibleError, match=r"DUGE goes on from changes of method\.parameters only"):
            method.continued(tiny, line("cat"), context, before)


def test_it_says_that_it_is_reconstructed():
    assert "This is a reconstruction" in inspect.getdoc(DUGE)
    text = files("unlearn.conf").joinpath("method", "duge.yaml").read_text()
    assert "RECONSTRUCTED" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reference=orignal", "reference: Unknown reference 'orignal'. Did you mean 'original'"),
        ("prior=noises", "prior: Unknown prior 'noises'. Did you mean 'noise'"),
        ("regularisation=-1", "regularisation: must be a number from 0 up"),
        ("earlier_share=1", "earlier_share: must be from 0 to below 1"),
        ("neighbours=0", "neighbours: must be at least 1"),
        ("memory=0", "memory: must be at least 1"),
        ("optimizer.lr=0", "lr: must be a number above 0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
