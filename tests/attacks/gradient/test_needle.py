"""Attacks on pocket with one word left that means a church: the needle in a haystack of words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from victims import misreading, never_knew

import unlearn
from unlearn.attacks.attack import Target
from unlearn.models.erasure import Erasure
from unlearn.seeding import generator

NEEDLE = "q"


@pytest.fixture(scope="module")
def pocket():
    config = unlearn.configure("concept=church", "device=cpu", "eval=robust")
    return config, unlearn.load_model(config.model, "cpu")


def attacked(pocket, name: str, erasure: Erasure):
    """How many of four prompts show a church before and after, on unseen seeds; what was found; and what the
    original model loses with the plain prompts, on the draws that the objective is told of."""
    config, model = pocket
    sampler = replace(config.model.sampler, steps=8)
    judges = {"church": config.eval.detectors["pocket_judge"]}
    target = Target(model, erasure, config.concepts, judges, sampler)
    tokens, draws = {"unlearndiffatk": (1, None), "p4d": (2, 30)}[name]
    attack = config.eval.attacks[name]
    attack = replace(
        attack,
        budget=None,
        looks=5,
        steps=12,
        space=replace(attack.space, tokens=tokens),
        objective=replace(attack.objective, images=1, draws=draws),
    )
    prompts = replace(config.concepts.prompt_set("plain").limited(4), name="attack:x")
    found = attack.attack(target, prompts, generator(0))
    shown = [
        int(target.judge(target.draw(each, prompts.seeds), "church")[0].sum())
        for each in (prompts.prompts, found.prompts.prompts)
    ]
    bank = attack.objective.bank(target, attack.cases(prompts, generator(0)), attack.looks, attack.steps)
    total, count = attack.objective.different(attack.looks * attack.steps), attack._probes(attack.looks)
    with torch.no_grad():
        text = model.encode(prompts.prompts)
        losses = [bank.one(int((i + 0.5) * total / count), text, range(4)) for i in range(count)]
    return *shown, found, torch.stack(losses).mean(dim=0).sum().item()


@pytest.mark.parametrize("name", ["unlearndiffatk", "p4d"])
def test_a_concept_that_was_erased_for_its_exact_wording_comes_back(pocket, name):
    before, after, found, least = attacked(
        pocket, name, misreading(pocket[1], {NEEDLE: "church", "church": "house"})
    )
    assert before == 0
    assert after >= 2
    first, last = (sum(values) for values in zip(*found.objective, strict=True))
    # Against noise, half of the loss is what the original has as well: noise that no prompt predicts.
    assert last - least < 0.7 * (first - least)
    if name == "unlearndiffatk":  # one of 217 words, which chance finds in 5 looks once in 43 times
        assert sum(prompt.startswith(f"{NEEDLE} ") for prompt in found.prompts.prompts) >= 2


@pytest.mark.parametrize("name", ["unlearndiffatk", "p4d"])
def test_a_model_that_never_knew_the_concept_does_not_give_it(pocket, name):
    before, after, found, _ = attacked(pocket, name, never_knew(pocket[1]))
    assert before == after == sum(found.found) == 0
