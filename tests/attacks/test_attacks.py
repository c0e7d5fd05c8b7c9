"""Attacks on the random model: what every attack promises, and the random control."""

from functools import partial

import attack_cases
import pytest
import torch
from attack_cases import random_tokens, target_of

from unlearn.attacks.attack import AdversarialPrompts, Target
from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.prompt_attack import unseen_seed
from unlearn.attacks.searches import RandomSearch
from unlearn.attacks.spaces import AddedTokens, content, stable_words, words
from unlearn.catalogue import ATTACKS
from unlearn.concepts.concept import PromptSet
from unlearn.errors import ArtifactError, ConfigError
from unlearn.seeding import generator

PLAIN = attack_cases.PLAIN.limited(2)
control = partial(random_tokens, prompts=2)


@pytest.fixture
def target(tiny):
    return target_of(tiny)


def test_every_attack_is_in_the_table():
    assert set(ATTACKS) == {
        "random_tokens",
        "unlearndiffatk",
        "p4d",
        "ringabell",
        "mma",
        "sneaky",
        "cce",
        "replay",
    }


@pytest.mark.parametrize("place", ["prefix", "suffix"])
def test_added_tokens_survive_being_written_and_read(target, place):
    space = AddedTokens(place=place, tokens=3)
    found = space.propose(target, "a church", 20, generator(0))
    assert found.shape == (20, 3)
    own = content(target, target.model.tokenize(["a church"])[0].tolist())
    for row in found:
        read = content(target, target.model.tokenize([space.text(target, "a church", row)])[0].tolist())
        assert read == (row.tolist() + own if place == "prefix" else own + row.tolist())
    assert len({tuple(row) for row in found.tolist()}) > 10
    assert set(found.flatten().tolist()) <= set(words(target).tolist())


def test_a_token_stands_before_every_few_of_the_prompts_own(target):
    """The positions that the authors leave free: those divisible by K + 1."""
    space = AddedTokens(place="every", tokens=3)
    for count in range(9):
        own = [f"own{i}" for i in range(count)]
        woven = space.woven(own, ["free"] * space.count(count))
        assert [i for i, token in enumerate(woven) if token == "free"] == space.slots(count)
        assert [i for i in range(len(woven)) if i % 4 == 0] == space.slots(count)
        assert [token for token in woven if token != "free"] == own
    prompt = "a photo of a church and a cat"
    own = content(target, target.model.tokenize([prompt])[0].tolist())
    (row,) = space.propose(target, prompt, 1, generator(0))
    read = content(target, target.model.tokenize([space.text(target, prompt, row)])[0].tolist())
    assert len(row) == len(own) // 3 + 1
    assert read[::4] == row.tolist()
    assert [token for i, token in enumerate(read) if i % 4] == own


def test_stable_words_survive_in_any_row_and_say_nothing_banned(target):
    space = AddedTokens(place="replace", tokens=20)
    stable = stable_words(target)
    rows = stable[torch.randint(len(stable), (1000, 20), generator=generator(0))]
    assert all(space._survives(target, "a church", rows))
    assert all(space._survives(target, "a church", torch.stack([stable[:20], stable[-20:]])))
    texts = [target.model.tokenizer.decode([word]).strip() for word in stable]
    assert "church" in texts
    assert set(stable.tolist()) <= set(words(target).tolist())
    kept = [target.model.tokenizer.decode([word]).strip() for word in stable_words(target, ["urc", "cat"])]
    assert kept == [text for text in texts if "urc" not in text and "cat" not in text]
    assert len(kept) < len(texts)


def test_candidates_that_are_read_otherwise_are_refused(target):
    # "c" and "hurch" written apart are two words, and read as other tokens than the pieces.
    vocabulary = target.model.tokenizer.get_vocab()
    pieces = [number for token, number in vocabulary.items() if token in ("p", "c")]
    space = AddedTokens(place="prefix", tokens=2)
    assert space._survives(target, "a church", torch.tensor([pieces])) == [False]


def test_too_long_a_prompt_is_said(target):
    with pytest.raises(ConfigError, match="token"):
        AddedTokens(place="prefix", tokens=60).propose(target, "a church " * 20, 1, generator(0))


def test_the_control_is_never_worse_than_its_first_candidate(target):
    one, four = (control(candidates=n).attack(target, PLAIN, generator(3)) for n in (1, 4))
    for index, (prompt, concept) in enumerate(zip(PLAIN.prompts, PLAIN.concepts, strict=True)):
        seed = unseen_seed(generator(3).initial_seed(), index, PLAIN)
        loss = DetectorScore().loss(target, concept, lambda text: text, seed)
        first, best = loss([one.prompts.prompts[index]]), loss([four.prompts.prompts[index]])
        assert best <= first + 1e-6
        assert four.prompts.prompts[index].endswith(prompt)


def test_counts_queries_and_forwards(target):
    found = control(candidates=3).attack(target, PLAIN, generator(0))
    assert found.queries == (3, 3)
    # Three images of two steps, each with a conditional and an unconditional half.
    assert found.forwards == (12, 12)
    assert found.found == (False, False)


def test_evaluation_seeds_are_kept_and_unseen(target, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Target, "draw", lambda _self, _prompts, seeds: seen.extend(seeds) or torch.rand(len(seeds), 3, 4, 4)
    )
    found = control().attack(target, PLAIN, generator(0))
    assert found.prompts.seeds == PLAIN.seeds
    assert found.plain == PLAIN.prompts
    assert found.prompts.name == PLAIN.name
    assert seen
    assert not set(seen) & set(PLAIN.seeds)


def test_a_seed_of_the_evaluation_is_never_used():
    taken = unseen_seed(7, 0, PLAIN)
    assert unseen_seed(7, 0, PromptSet("x", ("a",), (taken,), ("",), ("red",))) != taken


def test_success_is_the_detectors_decision(target):
    easy = target_of(target.model, threshold=0.0)
    assert control().attack(easy, PLAIN, generator(0)).found == (True, True)


def test_same_seed_same_prompts_and_nothing_is_changed(target):
    before = {name: weight.clone() for name, weight in target.model.named_parameters()}
    first, second, other = (control().attack(target, PLAIN, generator(seed)) for seed in (1, 1, 2))
    assert first == second
    assert first.prompts.prompts != other.prompts.prompts
    assert all(torch.equal(weight, before[name]) for name, weight in target.model.named_parameters())


def test_a_prompt_is_attacked_alike_whatever_stands_beside_it(target):
    both = control().attack(target, PLAIN, generator(1))
    alone = control().attack(target, PLAIN.limited(1), generator(1))
    assert alone.prompts.prompts[0] == both.prompts.prompts[0]


def test_survives_the_disk(tmp_path):
    found = AdversarialPrompts(PLAIN, ("a", "b"), (3, 4), (10, 20), (True, False))
    found.save(tmp_path)
    assert AdversarialPrompts.load(tmp_path) == found
    (tmp_path / "attack.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"attack.json: cannot be read"):
        AdversarialPrompts.load(tmp_path)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: AddedTokens(place="prefx", tokens=2), "place: Unknown place 'prefx'"),
        (lambda: AddedTokens(place="prefix", tokens=0), "tokens: must be at least 1"),
        (lambda: RandomSearch(candidates=0), "candidates: must be at least 1"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()
