"""The black-box search for other words, and its parts."""

from __future__ import annotations

import pytest
import torch

from unlearn.attacks.attack import Target
from unlearn.attacks.hill_climb import HillClimb
from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.replaced_words import ReplacedWords
from unlearn.attacks.sneaky_prompt import SneakyPrompt
from unlearn.attacks.spaces import content
from unlearn.concepts import Concept, ConceptSet, PromptSet
from unlearn.detectors.detector import Detector
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler
from unlearn.seeding import generator

PLAIN = PromptSet("attack:x", ("a church", "a photo of a cat"), (5, 6), ("",) * 2, ("red",) * 2)


class Red(Detector):
    """Sees red where the first channel is bright."""

    labels = ("red",)

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def scores(self, images):
        return images[:, :1].mean(dim=(2, 3))


def target_of(model, threshold: float = 2.0) -> Target:
    red = Concept(
        kind="object",
        phrases=["church", "old church"],
        anchor="",
        retain=[],
        prompts=None,
        detector="red",
        labels=["red"],
    )
    sampler = Sampler(scheduler="ddim", steps=2, guidance=2.0, resolution=32, batch_size=4)
    return Target(model, Erasure(), ConceptSet(erase={"red": red}), {"red": Red(threshold)}, sampler)


def sneaky(queries: int = 5, together: int = 2) -> SneakyPrompt:
    return SneakyPrompt(
        prompts=2,
        space=ReplacedWords(tokens=2),
        objective=DetectorScore(),
        search=HillClimb(queries=queries, together=together),
    )


def test_words_take_the_place_of_the_concepts_own(tiny):
    target, space = target_of(tiny), ReplacedWords(tokens=2)
    candidates = space.propose(target, "a church", 200, generator(0))
    assert candidates.shape == (200, 2)
    for row in candidates[:20]:
        words = tiny.tokenizer.decode(row).strip()
        assert space.text(target, "An Old Church, a church", row) == f"An {words}, a {words}"
        assert space.text(target, "churches of a cat", row) == f"{words} churches of a cat"
        ids = content(target, tiny.tokenize([space.text(target, "a church", row)])[0].tolist())
        assert ids[-2:] == row.tolist()
    assert not any("church" in tiny.tokenizer.decode(row) for row in candidates)


def test_every_look_after_the_first_changes_one_word_of_the_best():
    looks = []

    def loss(candidates):
        looks.append(candidates.clone())
        return candidates.sum(dim=1).double()

    pool = torch.randint(1, 100, (12, 3), generator=generator(0))
    best, value, tried = HillClimb(queries=12, together=4).minimise(loss, lambda count: pool[:count])
    assert [len(look) for look in looks] == [4, 4, 4]
    assert tried == 12
    assert torch.equal(looks[0], pool[:4])
    standing = looks[0][looks[0].sum(dim=1).argmin()]
    for number, look in enumerate(looks[1:], start=1):
        changed = look != standing
        assert changed.sum(dim=1).max() <= 1
        assert changed.any(dim=0).sum() >= 2
        drawn = pool[4 * number : 4 * number + 4]
        assert (look == torch.where(changed, drawn, standing)).all()
        lowest = look[look.sum(dim=1).argmin()]
        standing = lowest if lowest.sum() < standing.sum() else standing
    assert torch.equal(best, standing)
    assert value == standing.sum() < looks[0].sum(dim=1).min()


def test_looks_end_where_the_concept_shows_and_never_go_over_budget():
    pool = torch.arange(10)[:, None].repeat(1, 2)
    _, value, tried = HillClimb(queries=10, together=4).minimise(
        lambda rows: 6.0 - rows.sum(dim=1).double(), lambda count: pool[:count]
    )
    assert (value, tried) == (0.0, 4)
    _, _, tried = HillClimb(queries=10, together=4).minimise(
        lambda rows: torch.ones(len(rows)), lambda count: pool[:count]
    )
    assert tried == 10


def test_counts_its_looks_and_is_the_same_twice_and_alone(tiny):
    found = sneaky().attack(target_of(tiny), PLAIN, generator(3))
    assert found.queries == (5, 5)
    assert found.forwards == (20, 20)
    assert found.found == (False, False)
    assert found == sneaky().attack(target_of(tiny), PLAIN, generator(3))
    alone = sneaky().attack(target_of(tiny), PLAIN.limited(1), generator(3))
    assert alone.prompts.prompts[0] == found.prompts.prompts[0]
    assert "church" not in found.prompts.prompts[0]
    assert found.prompts.prompts[0].startswith("a ")
    easy = sneaky().attack(target_of(tiny, threshold=0.0), PLAIN, generator(3))
    assert (easy.queries, easy.found) == ((2, 2), (True, True))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ReplacedWords(tokens=0), "tokens: must be at least 1"),
        (lambda: HillClimb(queries=0, together=1), "queries: must be at least 1"),
        (lambda: HillClimb(queries=1, together=0), "together: must be at least 1"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()
