"""Attacking: each prompt once, with the seeds that it came with."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from noise_world import PROMPTS, SAMPLER
from painted_world import judging

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target
from unlearn.attacks.guesses import Guess, GuessingAttack
from unlearn.concepts.concept import PromptSet
from unlearn.errors import UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.models.words import Words
from unlearn.pipeline.attacking import Attacked, attack, guess, learned, search, tried
from unlearn.pipeline.drawing import Drawing
from unlearn.pipeline.erasing import Erased
from unlearn.seeding import generator
from unlearn.store.artifacts import Store, plain
from unlearn.store.provenance import made_by


class Suffix(Attack):
    """Says every prompt twice."""

    paper, white_box = "", False

    def __init__(self, prompts=2, seeds=None):
        self.prompts, self.seeds, self.calls = prompts, seeds, 0

    def attack(self, target, prompts, generator):  # noqa: ARG002
        self.calls += 1
        texts = tuple(f"{prompt} {prompt}" for prompt in prompts.prompts)
        new = PromptSet(prompts.name, texts, self.seeds or prompts.seeds, prompts.shows, prompts.concepts)
        n = len(texts)
        return AdversarialPrompts(new, prompts.prompts, (1,) * n, (0,) * n, (False,) * n)


def unseen():
    return Target(None, None, None, {}, None)


def test_attacks_the_first_prompts_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unlearn.store.artifacts.plain", lambda value: json.loads(json.dumps(value, default=str))
    )
    method = Suffix()
    monkeypatch.setattr(Suffix, "__str__", lambda self: f"Suffix {self.prompts}")
    runs = [search(tried("twice", method, PROMPTS, 0), unseen, {}, Store(tmp_path)) for _ in range(2)]
    assert method.calls == 1
    assert runs[0] == runs[1]
    found = runs[0][0]
    assert found.prompts.name == "attack:twice"
    assert (found.prompts.prompts, found.prompts.seeds) == (("a a", "b b"), (1, 2))
    with pytest.raises(UnlearnError, match="must keep the seeds"):
        search(tried("twice", Suffix(1, (9,)), PROMPTS, 1), unseen, {}, Store(tmp_path))


def test_two_names_of_one_attack_are_two_attacks(tmp_path, monkeypatch):
    """The name decides what is random, and what the prompts are called."""
    monkeypatch.setattr(
        "unlearn.store.artifacts.plain", lambda value: json.loads(json.dumps(value, default=str))
    )
    monkeypatch.setattr(Suffix, "__str__", lambda self: f"Suffix {self.prompts}")
    found = [
        search(tried(name, Suffix(), PROMPTS, 0), unseen, {}, Store(tmp_path))[0] for name in ("one", "two")
    ]
    assert [each.prompts.name for each in found] == ["attack:one", "attack:two"]


def number(random):
    return int(torch.randint(1_000_000, (1,), generator=random))


class Dice(Attack):
    """Says a number behind every prompt."""

    paper, white_box = "", False

    def attack(self, target, prompts, generator):  # noqa: ARG002
        texts = tuple(f"{prompt} {number(generator)}" for prompt in prompts.prompts)
        n = len(texts)
        found = replace(prompts, prompts=texts)
        return AdversarialPrompts(found, prompts.prompts, (1,) * n, (0,) * n, (None, *[False] * (n - 1)))


class Guessed(GuessingAttack):
    """Finds numbers without the erased model, and without a look takes the first."""

    paper = ""

    def guess(self, target, prompts, generator):  # noqa: ARG002
        return [Guess((f"{text} {number(generator)}",), (0.1,), 0.3, 5) for text in prompts.prompts]


def said(random, prompts):
    return tuple(f"{prompt} {number(random)}" for prompt in prompts)


@pytest.mark.parametrize("kind", [Dice, lambda prompts: Guessed(prompts=prompts, looks=0, batch_size=1)])
def test_what_is_random_hangs_on_the_name_and_the_seed_alone(tmp_path, kind):
    """Attacks of one run draw other numbers, and each draws the same every time."""
    for name, seed in (("one", 0), ("two", 0), ("one", 3)):
        trial, store = tried(name, kind(prompts=2), PROMPTS, seed), Store(tmp_path / f"{name}{seed}")
        found, _ = search(trial, unseen, {}, store, guess(trial, unseen, {}, store), failures=1)
        assert found.prompts.prompts == said(generator(seed, "attack", name), ("a", "b"))
        assert found.plain == ("a", "b")


def test_what_an_attack_found_is_kept_until_something_that_it_depends_on_is_another(tmp_path):
    store, trial = Store(tmp_path), tried("one", Dice(prompts=2), PROMPTS, 0)

    def folder(trial=trial, **source):
        return search(trial, unseen, source, store, failures=1)[1]

    first = folder(erased="x")
    assert folder(erased="x") == first
    other = {
        "source": folder(erased="y"),
        "seed": folder(replace(trial, seed=1), erased="x"),
        "name": folder(tried("two", Dice(prompts=2), PROMPTS, 0), erased="x"),
        "attack": folder(replace(trial, attack=Dice(prompts=3)), erased="x"),
        "prompts": folder(tried("one", Dice(prompts=2), PROMPTS.reseeded(1), 0), erased="x"),
    }
    assert len({first, *other.values()}) == 1 + len(other)


def test_what_an_attack_found_says_what_it_was_made_from(tmp_path):
    """By these names two runs are told apart, and artifacts of earlier versions found again."""
    store, method = Store(tmp_path), Guessed(prompts=2, looks=0, batch_size=1)
    trial = tried("one", method, PROMPTS, 4)
    guesses = guess(trial, unseen, {"model": "x"}, store)
    _, folder = search(trial, unseen, {"erased": "y"}, store, guesses)
    for one, stage, source in ((guesses, guess, {"model": "x"}), (folder, search, {"erased": "y"})):
        inputs = json.loads((one / "inputs.json").read_text())
        code = made_by(stage, method)
        assert inputs == plain({**code, **inputs, "source": source, "name": "one", "seed": 4})
        assert set(inputs) == {"attack", "name", "prompts", "seed", "source", *code}
        assert code["code"] != made_by(stage)["code"]


def test_an_attack_is_cut_to_its_budget_for_the_prompts_that_it_chooses(tmp_path):
    cut = []

    class Costly(Dice):
        def _within(self, budget, sampler, prompts):
            cut.append((budget, sampler, prompts))
            return Dice(prompts=1)

    costly = Costly(prompts=3, budget=7)
    erased = Erased(Erasure(), Path(), {"source": {}, "method": "x"}, {})
    drawing = Drawing(SimpleNamespace, SAMPLER, Store(tmp_path))
    found = attack({"dice": costly}, PROMPTS, 2, erased, drawing, judging())["dice"]
    assert cut == [(7, SAMPLER, PROMPTS.limited(3))]
    assert found.attack == costly
    assert found.found.prompts.prompts == said(generator(2, "attack", "dice"), ("a",))
    inputs = json.loads((found.folder / "inputs.json").read_text())
    assert inputs["seed"] == 2
    assert set(inputs["source"]) == {"detectors", "erased", "sampler"}
    assert set(inputs["source"]["detectors"]) == {"red"}
    assert inputs["source"]["erased"] == {"source": {}, "method": "x"}
    assert inputs["source"]["sampler"]["steps"] == SAMPLER.steps


def test_words_that_an_attack_learned_are_said_in_its_own_prompts_only(tmp_path):
    store = Store(tmp_path)
    found = {}
    for name in ("one", "two"):
        trial = tried(name, Dice(prompts=2), PROMPTS, 0)
        found[name] = Attacked(trial.attack, *search(trial, unseen, {}, store, failures=1))
    assert learned(found) == {}
    Words((7,), torch.tensor([[1.0, 2.0]])).save(found["two"].folder)
    ((name, words),) = learned(found).items()
    assert (name, words.ids, words.embeddings.tolist()) == ("attack:two", (7,), [[1.0, 2.0]])


def test_as_many_failures_as_are_allowed_are_no_error(tmp_path):
    trial = tried("one", Dice(prompts=2), PROMPTS, 0)
    with pytest.raises(UnlearnError, match=r"failed on images of 1 of 2 prompts; eval.failures allows 0"):
        search(trial, unseen, {}, Store(tmp_path))
    assert search(trial, unseen, {}, Store(tmp_path), failures=1)[0].found == (None, False)


def test_what_is_guessed_is_asked_of_the_original_and_the_rest_of_the_erased_model(tmp_path):
    """What is found without the erased model does for all methods."""
    seen = []

    class Looking(Guessed):
        def guess(self, target, prompts, generator):
            seen.append(("guess", target.erasure))
            return super().guess(target, prompts, generator)

        def choose(self, target, prompts, guesses, generator):
            seen.append(("choose", target.erasure, target.failures, sorted(target.detectors)))
            return super().choose(target, prompts, guesses, generator)

    store, first = Store(tmp_path), Erasure(weights={"unet.x": torch.zeros(1)})
    attacks = {"dice": Dice(prompts=2), "looking": Looking(prompts=3, looks=0, batch_size=1)}
    made = []
    for method, erasure in (("x", first), ("y", Erasure())):
        erased = Erased(erasure, Path(), {"source": {"model": 1}, "method": method}, {})
        drawing = Drawing(SimpleNamespace, SAMPLER, store)
        made.append(attack(attacks, PROMPTS, 0, erased, drawing, judging()))
    assert seen == [("guess", Erasure()), *[("choose", each, 1, ["red"]) for each in (first, Erasure())]]
    one, two = made
    assert list(one) == ["dice", "looking"]
    assert (one["dice"].guesses, one["dice"].attack, len(one["dice"].found.prompts)) == (
        None,
        attacks["dice"],
        2,
    )
    assert one["dice"].folders == [one["dice"].folder]
    assert one["looking"].folders == [one["looking"].guesses, one["looking"].folder]
    assert one["looking"].guesses == two["looking"].guesses
    assert one["looking"].folder != two["looking"].folder
    assert one["looking"].found.prompts.prompts == said(generator(0, "attack", "looking"), ("a", "b", "c"))
