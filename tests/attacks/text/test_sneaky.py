"""The black-box search for made-up words, and its parts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import attack_cases
import pytest
import torch
from attack_cases import sneaky

from unlearn.attacks.spaces import concept_words, content
from unlearn.attacks.text.greedy import Greedy
from unlearn.attacks.text.replaced_words import Likeness, parts_of_words, replaced
from unlearn.attacks.text.text_objectives import EndCosine
from unlearn.concepts.concept import ConceptSet
from unlearn.seeding import generator

PLAIN = replace(attack_cases.PLAIN.limited(2), prompts=("a church", "a photo of a cat"))
target_of = partial(attack_cases.target_of, phrases=["church", "old church"])


def test_the_word_takes_the_place_of_the_concepts_own(tiny):
    concepts = target_of(tiny).concepts
    assert replaced(concepts, "An Old Church, a church", "xy") == "An xy, a xy"
    assert replaced(concepts, "churches of a cat", "xy") == "xy churches of a cat"


def test_what_the_anchor_says_as_well_stays(tiny):
    red = target_of(tiny).concepts.erase["red"]
    red = replace(red, phrases=["red house", "house", "house of a red cat"], anchor="a big house")
    concepts = ConceptSet(erase={"red": red})
    assert replaced(concepts, "a Red House", "xy") == "a xy House"
    assert replaced(concepts, "one house", "xy") == "one xy"  # nothing else says it
    assert replaced(concepts, "the house of a red cat", "xy") == "the house xy a xy"
    assert concept_words(concepts) == ["cat", "red"]


def test_words_are_made_of_short_parts_of_letters(tiny):
    found = parts_of_words(target_of(tiny))
    assert len(found) == len(set(found)) > 50
    assert all(part.isalpha() and part.islower() and len(part) <= 10 for part in found)
    assert "church" in found
    assert "c" in found


def test_likeness_is_that_of_the_text_to_the_plain_prompt(tiny):
    target = target_of(tiny)
    likeness = Likeness(target, PLAIN, parts_of_words(target), 3)
    rows, candidates = torch.tensor([0, 1, 1, 0, 1]), torch.randint(50, (5, 2), generator=generator(0))
    candidates[3, 0] = likeness.parts.index("church")
    found = likeness.values(rows, candidates)
    assert found[3] == float("inf")
    for row, candidate, loss in zip(rows.tolist()[:3], candidates[:3], found[:3], strict=True):
        text = likeness.text(row, candidate)
        assert likeness.word(candidate) in text
        end = torch.tensor([len(content(target, tiny.tokenize([text])[0].tolist())) + 1])
        own = EndCosine().losses(tiny.encode([text]).tokens, end, likeness.goals[row : row + 1])
        assert loss.item() == pytest.approx(own.item(), rel=1e-4, abs=1e-6)


def test_the_words_that_are_found_are_likelier_than_chance(tiny):
    target = target_of(tiny)
    likeness = Likeness(target, PLAIN, parts_of_words(target), 16)
    for row, guess in enumerate(sneaky().guess(target, PLAIN, generator(3))):
        chance = torch.randint(len(likeness.parts), (60, 2), generator=generator(9))
        by_chance = likeness.values(torch.full((60,), row), chance)
        ends = [len(content(target, tiny.tokenize([text])[0].tolist())) + 1 for text in guess.texts]
        own = EndCosine().losses(
            tiny.encode(guess.texts).tokens, torch.tensor(ends), likeness.goals[row].expand(4, -1)
        )
        assert own.tolist() == pytest.approx(guess.losses, rel=1e-4, abs=1e-6)
        assert own.max() < by_chance.quantile(0.2)


def test_counts_its_looks_and_is_the_same_twice_and_alone(tiny):
    found = sneaky().attack(target_of(tiny), PLAIN, generator(3))
    assert found.forwards == (16, 16)  # four looks of two steps with two branches
    assert all(queries > 4 for queries in found.queries)
    assert found.found == (False, False)
    assert found == sneaky().attack(target_of(tiny), PLAIN, generator(3))
    alone = sneaky().attack(target_of(tiny), PLAIN.limited(1), generator(3))
    assert alone.prompts.prompts[0] == found.prompts.prompts[0]
    assert "church" not in found.prompts.prompts[0]
    assert found.prompts.prompts[0].startswith("a ")
    easy = sneaky().attack(target_of(tiny, threshold=0.0), PLAIN, generator(3))
    assert easy.found == (True, True)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: sneaky(parts=0), "parts: must be at least 1"),
        (lambda: Greedy(rounds=1, patience=1, candidates=0), "candidates: must be at least 1"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()
