"""Attacks that search without the erased model: found once for all methods, and what they do with looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from attack_cases import PLAIN, SAMPLER, concept, mma, ringabell, sneaky, target_of

from unlearn.attacks.attack import Attack, Target
from unlearn.attacks.findings import Finding, gathered
from unlearn.attacks.guesses import Guess, GuessingAttack, guessed, load, save
from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ArtifactError, ConfigError, UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.pipeline.attacking import attack
from unlearn.pipeline.drawing import Drawing
from unlearn.pipeline.erasing import Erased
from unlearn.pipeline.judging import Judging
from unlearn.seeding import generator
from unlearn.store.artifacts import Store

judged = partial(target_of, phrases=["church", "old church"])
SEEN: list[tuple[str, Erasure]] = []
EVERY = pytest.mark.parametrize("kind", [ringabell, mma, sneaky])


@dataclass(kw_only=True)
class Looking(Attack):
    paper, white_box = "", False

    def attack(self, target, prompts, generator):  # noqa: ARG002
        SEEN.append(("attack", target.erasure))
        return gathered([Finding(text, 1, 0, found=False) for text in prompts.prompts], prompts)


@dataclass(kw_only=True)
class Guessing(GuessingAttack):
    paper = ""

    def guess(self, target, prompts, generator):  # noqa: ARG002
        SEEN.append(("guess", target.erasure))
        return [Guess((f"{text}!",), (0.5,), 1.0, 7) for text in prompts.prompts]

    def choose(self, target, prompts, guesses, generator):
        SEEN.append(("choose", target.erasure))
        return super().choose(target, prompts, guesses, generator)


@dataclass
class Judge:
    files = ()


def test_what_is_found_without_the_erased_model_is_found_once_for_all_methods(tmp_path):
    SEEN.clear()
    church = concept("x", detector="x")

    attacks = {"guessing": Guessing(prompts=1, looks=0, batch_size=1), "looking": Looking(prompts=1)}

    def run(phrases, model, erasure):
        concepts = ConceptSet(erase={"church": replace(church, phrases=phrases)})
        drawing = Drawing(lambda: None, SAMPLER, Store(tmp_path))
        inputs = {"source": {"weights": model}, "method": list(erasure.weights)}
        done = Erased(erasure, tmp_path, inputs, {})
        plain = replace(PLAIN, concepts=("church",) * 3)
        judging = Judging(concepts, {"x": Judge()})
        return attack(attacks, plain, 0, done, drawing, judging)

    one, other = (Erasure(weights={name: torch.ones(1)}) for name in ("a", "b"))
    first, second = (run(["church"], "sd", erasure) for erasure in (one, other))
    assert first["guessing"].guesses == second["guessing"].guesses
    assert first["looking"].guesses is None
    assert all(first[name].folder != second[name].folder for name in attacks)
    assert first["guessing"].folders == [first["guessing"].guesses, first["guessing"].folder]
    assert first["looking"].folders == [first["looking"].folder]
    assert first["guessing"].found.prompts.prompts == ("a church!",)
    calls = [(step, *erasure.weights) for step, erasure in SEEN]
    round_of = lambda name: [("choose", name), ("attack", name)]  # noqa: E731
    assert calls == [("guess",), *round_of("a"), *round_of("b")]
    # Another original model or another concept is another attack.
    assert run(["church"], "other", one)["guessing"].guesses != first["guessing"].guesses
    assert run(["chapel"], "sd", one)["guessing"].guesses != first["guessing"].guesses


def remembering(first, tried, *leaders):
    return SimpleNamespace(
        first=first, tried=tried, leaders=lambda: [(torch.tensor([word]), value) for word, value in leaders]
    )


def test_the_best_of_several_hunts_are_guessed():
    hunts = [
        remembering(float("nan"), 4),
        remembering(9.0, 5, (1, 0.5), (2, 3.0)),
        remembering(8.0, 6, (3, 1.0), (4, 1.5)),
    ]
    name = "?abcb".__getitem__  # the fourth word is written as the second
    assert guessed(hunts, name, 2) == Guess(("a", "c"), (0.5, 1.0), 9.0, 15)
    assert guessed(hunts, name, 9) == Guess(("a", "c", "b"), (0.5, 1.0, 1.5), 9.0, 15)
    with pytest.raises(UnlearnError, match="none of 4 candidates can be taken"):
        guessed(hunts[:1], name, 2)


def test_guesses_come_back_from_disk_and_damage_is_said(tmp_path):
    guesses = [Guess(("a ü", "b"), (0.25, 0.5), 1.5, 9), Guess(("c",), (0.0,), 2.0, 3)]
    save(guesses, tmp_path)
    assert load(tmp_path) == guesses
    (tmp_path / "guesses.json").write_text("[{}]")
    with pytest.raises(ArtifactError, match=r"guesses\.json: cannot be read"):
        load(tmp_path)


@EVERY
def test_the_best_finds_are_drawn_and_the_detector_chooses(tiny, monkeypatch, kind):
    target, drawn = judged(tiny), []
    draw = Target.draw
    monkeypatch.setattr(
        Target,
        "draw",
        lambda self, texts, seeds: drawn.append((list(texts), seeds)) or draw(self, texts, seeds),
    )
    attack, prompts = kind(prompts=2, looks=4), PLAIN.limited(2)
    guesses = attack.guess(target, prompts, generator(3))
    assert not drawn
    found = attack.attack(target, prompts, generator(3))
    for row, (texts, seeds) in enumerate(drawn):
        assert tuple(texts) == guesses[row].texts
        assert len(set(texts)) == len(texts) == 4
        assert list(guesses[row].losses) == sorted(guesses[row].losses)
        assert len(set(seeds)) == 1
        assert not set(seeds) & set(PLAIN.seeds)
        best = int(target.judge(draw(target, texts, seeds), "red")[1].argmax())
        assert found.prompts.prompts[row] == texts[best]
        assert found.objective[row] == (guesses[row].first, guesses[row].losses[best])
        assert found.queries[row] == guesses[row].tried + 4
    assert found.forwards == (16, 16)  # four looks of two steps with two branches
    assert found.found == (False, False)
    assert attack.attack(judged(tiny, threshold=0.0), prompts, generator(3)).found == (True, True)


@EVERY
def test_without_looks_the_best_find_is_taken_unseen(tiny, kind):
    one, four = (kind(prompts=2, looks=looks) for looks in (0, 4))
    before = tiny.forwards
    found = one.attack(judged(tiny), PLAIN.limited(2), generator(3))
    assert tiny.forwards == before
    assert found.forwards == (0, 0)
    guesses = four.guess(judged(tiny), PLAIN.limited(2), generator(3))
    assert found.prompts.prompts == tuple(guess.texts[0] for guess in guesses)
    assert found.queries == tuple(guess.tried for guess in guesses)


@EVERY
def test_what_was_found_before_is_not_searched_for_again(tiny, monkeypatch, kind):
    attack, prompts = kind(prompts=2, looks=3), PLAIN.limited(2)
    guesses = attack.guess(judged(tiny), prompts, generator(3))
    whole = attack.attack(judged(tiny), prompts, generator(3))
    monkeypatch.setattr(type(attack), "guess", None)
    assert attack.choose(judged(tiny), prompts, guesses, generator(3)) == whole


@EVERY
def test_a_budget_leaves_fewer_looks(tiny, kind):
    sampler = judged(tiny).sampler
    assert replace(kind(looks=4), budget=11).bounded(sampler, PLAIN).looks == 2
    assert replace(kind(looks=4), budget=1000).bounded(sampler, PLAIN).looks == 4
    with pytest.raises(ConfigError, match=r"budget: one look takes 4 denoiser forwards, got 3\."):
        replace(kind(looks=4), budget=3).bounded(sampler, PLAIN)
    # Nothing is asked of the denoiser, so that any budget will do.
    assert replace(kind(looks=0), budget=3).bounded(sampler, PLAIN).looks == 0


@EVERY
@pytest.mark.parametrize(
    ("key", "least", "given"), [("looks", 0, -1), ("batch_size", 1, 0), ("prompts", 1, 0)]
)
def test_refuses_settings_that_mean_nothing(kind, key, least, given):
    with pytest.raises(ValueError, match=f"{key}: must be at least {least}, got {given}"):
        kind(**{key: given})


def test_a_search_that_may_take_nothing_says_so(tiny, monkeypatch):
    monkeypatch.setattr("unlearn.attacks.text.text_attack.concept_words", lambda concepts: [])  # noqa: ARG005
    monkeypatch.setattr("unlearn.attacks.text.replaced_words.concept_words", lambda concepts: [""])  # noqa: ARG005
    with pytest.raises(UnlearnError, match=r"none of \d+ candidates can be taken: raise search\.rounds"):
        sneaky().guess(judged(tiny), PLAIN.limited(1), generator(3))
