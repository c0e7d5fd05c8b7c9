"""Attacks at equal cost: what they may spend, and that they spend no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attack_cases import PLAIN, random_tokens, target_of, unlearndiffatk

from unlearn.attacks.gradient.gradient_attack import GradientAttack
from unlearn.attacks.gradient.noise_matching import NoiseMatching
from unlearn.errors import ConfigError
from unlearn.seeding import generator

#: A random model's images show nothing.
pytestmark = pytest.mark.filterwarnings("ignore:attack. the original model's images show")

MATCHING = {"images": 2, "timesteps": "uniform", "least": 0.0}


@pytest.mark.parametrize(
    "objective",
    [
        NoiseMatching(against="noise", draws=None, together=1, **MATCHING),
        NoiseMatching(against="noise", draws=2, together=3, **MATCHING),
        NoiseMatching(against="original", draws=4, together=1, **MATCHING),
        NoiseMatching(against="original", draws=None, together=2, **MATCHING),
    ],
)
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_what_a_search_costs_is_known_before(tiny, objective, guidance):
    target = target_of(tiny)
    target = replace(target, sampler=replace(target.sampler, guidance=guidance))
    attack = unlearndiffatk(objective=objective, looks=3)
    costs = [attack.forwards(looks, target.sampler) for looks in (1, 2, 3)]
    found = attack.attack(target, PLAIN, generator(0))
    assert found.forwards == (costs[-1],) * 3
    within = replace(attack, budget=costs[2] - 1).bounded(target.sampler, PLAIN)
    assert (within.looks, within.budget) == (2, None)
    assert within.attack(target, PLAIN, generator(0)).forwards == (costs[1],) * 3
    assert replace(attack, budget=10**6).bounded(target.sampler, PLAIN) == attack
    with pytest.raises(ConfigError, match=rf"budget: one look, .* takes {costs[0]} denoiser forwards, got"):
        replace(attack, budget=costs[0] - 1).bounded(target.sampler, PLAIN)


def test_a_success_that_is_not_confirmed_leaves_fewer_looks_within_the_budget(tiny, monkeypatch):
    """What confirming costs is paid from the same budget, prompt by prompt."""
    target, seen = target_of(tiny), GradientAttack._seen

    def once(self, target, cases, texts, seeds, found):
        confirming = seeds[0] == cases[0].images[self.images :]
        judged = seen(self, target, cases, texts, seeds, found)
        shows = [case.prompt == "church" and not confirming for case in cases]
        return [(torch.full_like(one, show), other) for show, (one, other) in zip(shows, judged, strict=True)]

    monkeypatch.setattr(GradientAttack, "_seen", once)
    attack = unlearndiffatk(looks=4, confirm=1)
    look, all_of_them = 3 + 4, attack.forwards(4, target.sampler)
    free = attack.attack(target, PLAIN, generator(0))
    assert free.forwards == (all_of_them, all_of_them, all_of_them + 4 * 4)
    assert free.found == (False, False, False)
    within = replace(attack, budget=all_of_them).bounded(target.sampler, PLAIN)
    found = within.attack(target, PLAIN, generator(0))
    # Two looks less for one prompt, which pay for confirming two; the others look as often as they may.
    assert found.forwards[:2] == (all_of_them, all_of_them)
    assert found.forwards[2] <= all_of_them < found.forwards[2] + look + 4
    assert found.queries == (4, 4, 2)
    assert found.queries[:2] == free.queries[:2]


def test_a_search_of_images_is_bounded_by_their_number(tiny):
    target = target_of(tiny)
    attack = random_tokens(candidates=5, budget=15)
    assert target.sampler.forwards == 4
    within = attack.bounded(target.sampler, PLAIN)
    assert within.search.candidates == 3
    assert within.attack(target, PLAIN, generator(0)).forwards == (12,) * 3
    assert replace(attack, budget=1000).bounded(target.sampler, PLAIN).search == attack.search
    with pytest.raises(ConfigError, match="budget: one candidate takes 4 denoiser forwards, got 3"):
        replace(attack, budget=3).bounded(target.sampler, PLAIN)
