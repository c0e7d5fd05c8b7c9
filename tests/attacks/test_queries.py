"""How soon attacks succeed."""

from dataclasses import replace

import pytest
import torch
from attack_cases import PLAIN, target_of, unlearndiffatk

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.attacks.findings import Finding, gathered, kept
from unlearn.attacks.gradient.attempts import Attempt
from unlearn.attacks.queries import Watched, by_queries
from unlearn.concepts.concept import PromptSet
from unlearn.seeding import generator
from unlearn.statistics.rates import wilson_interval
from unlearn.store.layout import AttackEntry
from unlearn.store.validation import problems


def found_in(*first, found=None):
    """What an attack found in so many candidates."""
    judged = tuple(one is not None for one in first) if found is None else found
    count = len(first)
    prompts = PromptSet("x", tuple(map(str, range(count))), (1,) * count, ("",) * count, ("red",) * count)
    zeros = (0,) * len(first)
    return AdversarialPrompts(prompts, prompts.prompts, zeros, zeros, judged, (), first)


def test_the_curve_rises_at_each_success():
    curve = by_queries(found_in(3, None, 1, 3, 20))
    assert curve["rows"] == ["1", "3", "20"]
    queries, share, low, high = zip(*curve["values"], strict=True)
    assert (queries, share) == ((1, 3, 20), (20, 60, 80))
    for hits, ends in zip((1, 3, 4), zip(low, high, strict=True), strict=True):
        assert ends == pytest.approx([100 * end for end in wilson_interval(hits, 5)])
    entry = {
        "name": "x", "control": False, "prompts": 5, "found": 4, "queries": 1.0, "unet_forwards": 1.0,
        "seconds": 1.0, "curve": curve,
    }  # fmt: skip
    assert list(problems(entry, AttackEntry, "", strict=True)) == []


def test_the_band_is_over_prompts():
    found = found_in(1, 1, None, None, 2, 2)
    alone, together = (
        by_queries(one)["values"][0] for one in (found, replace(found, plain=("a", "a", "b", "b", "c", "c")))
    )
    assert together[:2] == alone[:2]
    assert together[2] < alone[2] < alone[3] < together[3]
    assert by_queries(replace(found, plain=("a",) * 6))["values"][0][2:] == [None, None]


def test_prompts_of_which_nobody_knows_are_left_out():
    curve = by_queries(found_in(2, None, None, found=(True, None, False)))
    assert curve["values"][0][:2] == [2, 50]


def test_there_is_no_curve_without_a_success_that_has_a_number():
    assert by_queries(found_in(None, None)) is None
    assert by_queries(replace(found_in(1, 2), first=())) is None


def test_a_watched_loss_counts_candidates_over_all_calls():
    loss = Watched(lambda candidates: candidates.float())
    assert loss(torch.tensor([3, 1])).tolist() == [3, 1]
    assert loss.first is None
    loss(torch.tensor([2, 0, -1]))
    loss(torch.tensor([-1]))
    assert loss.first == 4


def test_a_failed_look_is_no_success():
    loss = Watched(lambda candidates: candidates)
    loss(torch.tensor([torch.nan, 0.0]))
    assert loss.first == 2


def test_a_number_is_kept_with_what_was_found(tmp_path):
    findings = [Finding("a", 5, 1, True, None, 4), Finding("b", 5, 1, False)]
    assert [kept(tmp_path, "x", lambda: findings) for _ in range(2)] == [findings, findings]
    plain = PLAIN.limited(2)
    found = gathered(findings, plain)
    assert found.first == (4, None)
    found.save(tmp_path)
    assert AdversarialPrompts.load(tmp_path) == found
    assert gathered(findings[1:], plain.limited(1)).first == ()


def test_an_attempt_notes_the_look_that_succeeded_and_not_the_best_before():
    attempt = Attempt("a", torch.tensor([1]), 0)
    no, yes = torch.tensor([False]), torch.tensor([True])
    for shown, probability in ((no, 0.3), (no, 0.9), (yes, 0.6), (yes, 0.99)):
        attempt.take("b", torch.tensor([2]), shown, torch.tensor([probability]))
    assert (attempt.queries, attempt.first, attempt.shown) == (4, 3, True)


def test_attacks_say_how_many_looks_it_took(tiny):
    found = unlearndiffatk(looks=3).attack(target_of(tiny, threshold=0.0), PLAIN, generator(0))
    assert found.found == (True,) * 3
    assert found.first == (1, 1, 1)
    assert by_queries(found)["values"][0][:2] == [1, 100]
