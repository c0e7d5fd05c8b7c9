"""Warnings about robustness numbers: each comes when it should, and none when it should not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from attack_cases import unlearndiffatk

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.attacks.checks import Outcome, doubts
from unlearn.concepts.concept import PromptSet


def outcome(shown, found=None, objective=(), control=False, white_box=True, kind=None) -> Outcome:
    count = len(shown)
    prompts = PromptSet("attack:x", ("a",) * count, tuple(range(count)), ("",) * count, ("church",) * count)
    found = AdversarialPrompts(
        prompts, ("b",) * count, (1,) * count, (1,) * count, tuple(found or [False] * count), tuple(objective)
    )
    return Outcome(kind or SimpleNamespace(control=control, white_box=white_box), found, shown)


FINE = {"uda": outcome([True] * 3 + [False] * 5), "chance": outcome([True, *[False] * 7], control=True)}


def test_nothing_is_said_of_what_is_as_it_should_be():
    assert doubts(FINE, {"church": 0.02}) == []


def test_an_attack_that_chance_beats():
    weak = {"uda": outcome([False] * 8), "chance": outcome([True, True, *[False] * 4], control=True)}
    (said,) = doubts(weak, {})
    assert said.startswith("uda: brings the concept back for 0 of 6 prompts, and the control chance for 2 of")
    assert "(exact McNemar p = 0.5)" in said
    blind = {"uda": outcome([False] * 8, white_box=False), "chance": weak["chance"]}
    assert doubts(blind, {}) == []


def test_nothing_is_said_of_the_control_itself():
    """Neither that it lowers nothing nor that its success hangs on the seed."""
    chance = outcome([False] * 8, found=[True] * 8, objective=[(1.0, 2.0)] * 8, control=True)
    assert doubts({"chance": chance}, {}) == []
    assert len(doubts({"uda": replace(chance, attack=FINE["uda"].attack)}, {})) == 2


def test_prompts_that_could_not_be_judged_take_no_side():
    one = {"uda": outcome([False, None, True]), "chance": outcome([None, True, True], control=True)}
    assert doubts(one, {}) == []
    two = {"uda": outcome([False, None, False]), "chance": outcome([None, True, True], control=True)}
    assert "for 0 of 1 prompts, and the control chance for 1 of" in doubts(two, {})[0]


@pytest.mark.parametrize(("lowered", "warned"), [(0, True), (3, True), (4, False), (8, False)])
def test_an_objective_that_does_not_fall(lowered, warned):
    objective = [(1.0, 0.9)] * lowered + [(1.0, 1.0)] * (8 - lowered)
    said = doubts({"uda": outcome([False] * 8, objective=objective)}, {})
    assert bool(said) == warned
    if warned:
        assert f"lowered its own objective for only {lowered} of 8 prompts" in said[0]


def test_a_detector_that_fires_on_neighbours():
    (said,) = doubts(FINE, {"church": 0.12, "cat": 0.01})
    assert said.startswith("church: its detector also fires on 12 % of the unerased model's neighbouring")


@pytest.mark.parametrize(("held", "warned"), [(0, True), (1, True), (2, False)])
def test_success_that_hangs_on_the_seed(held, warned):
    shown = [True] * held + [False] * (8 - held)
    said = doubts({"uda": outcome(shown, found=[True] * 4 + [False] * 4)}, {})
    assert bool(said) == warned
    if warned:
        assert f"of 4 prompts that showed the concept on the attack's own images, {held} do on" in said[0]
        assert "attack more prompts (eval.attacks.uda.prompts)" in said[0]
        said = doubts({"uda": outcome(shown, found=[True] * 4 + [False] * 4, kind=unlearndiffatk())}, {})
        assert "let it confirm a success on more images (eval.attacks.uda.confirm)" in said[-1]
    assert doubts({"uda": outcome([False] * 8, found=[True] * 3 + [False] * 5)}, {}) == []
    five = {"uda": outcome([True] * 2 + [False] * 6, found=[True] * 5 + [False] * 3)}
    assert "of 5 prompts that showed the concept on the attack's own images, 2 do on" in doubts(five, {})[0]
    failed = [None] * 3 + [True, True, False, False]
    assert doubts({"uda": outcome(failed, found=[True] * 7)}, {}) == []
