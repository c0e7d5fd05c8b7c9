"""Attacking: each prompt once, with the seeds that it came with."""

import json

import pytest
from noise_world import PROMPTS

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target
from unlearn.concepts.concept import PromptSet
from unlearn.errors import UnlearnError
from unlearn.pipeline.attacking import search, tried
from unlearn.store.artifacts import Store


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
