"""Searches by the losses of whole candidates, on losses whose best is known."""

from __future__ import annotations

import pytest
import torch

from unlearn.attacks.text.coordinate_gradient import CoordinateGradient, likely_swaps
from unlearn.attacks.text.genetic import Genetic, crossed, mutated
from unlearn.attacks.text.greedy import Greedy
from unlearn.attacks.text.text_search import Losses, minimise
from unlearn.seeding import generator

WORDS, TOKENS = 40, 3


def genetic(**changes) -> Genetic:
    settings = {"rounds": 300, "patience": 300, "population": 30, "crossover": 0.5, "mutation": 0.25}
    return Genetic(**{**settings, **changes})


def descent(**changes) -> CoordinateGradient:
    settings = {"rounds": 30, "patience": 30, "candidates": 24, "top": 10, "starts": 1}
    return CoordinateGradient(**settings | changes)


def greedy(**changes) -> Greedy:
    return Greedy(**{"rounds": 60, "patience": 60, "candidates": WORDS, **changes})


class Planted(Losses):
    """The distance of the words' vectors from those of a planted candidate for each prompt."""

    def __init__(self, planted, seed=0):
        self.planted = torch.tensor(planted)
        self.table = torch.randn(WORDS, 8, generator=generator(seed))
        self.scored: list[list[tuple[int, ...]]] = []

    def values(self, rows, candidates):
        self.scored.append(
            [(row, *each) for row, each in zip(rows.tolist(), candidates.tolist(), strict=True)]
        )
        return (self.table[candidates] - self.table[self.planted[rows]]).square().sum(dim=(1, 2))

    def slopes(self, rows, candidates):
        return 2 * (self.table[candidates] - self.table[self.planted[rows]]) @ self.table.T


def run(search, losses, seeds, tokens=TOKENS):
    found = minimise(search, losses, WORDS, tokens, [generator(seed) for seed in seeds])
    return [hunt for (hunt,) in found]


@pytest.mark.parametrize("search", [genetic(), descent(), greedy()], ids=["genetic", "gradient", "greedy"])
def test_finds_a_planted_candidate(search):
    planted = [[3, 17, 9], [39, 0, 21]]
    found = run(search, Planted(planted), (0, 1))
    assert [hunt.best.tolist() for hunt in found] == planted
    assert [hunt.value for hunt in found] == [0, 0]


@pytest.mark.parametrize(
    "search", [genetic(rounds=9), descent(rounds=9), greedy(rounds=9)], ids=["genetic", "gradient", "greedy"]
)
def test_a_prompt_is_searched_alike_whatever_stands_beside_it(search):
    planted = [[3, 17, 9], [39, 0, 21], [1, 1, 1]]
    together = run(search, Planted(planted), (0, 1, 2))
    for row in range(3):
        (alone,) = run(search, Planted(planted[row : row + 1]), (row,))
        assert alone.best.tolist() == together[row].best.tolist()
        assert (alone.value, alone.tried) == (together[row].value, together[row].tried)


@pytest.mark.parametrize(
    "search",
    [genetic(rounds=25), descent(rounds=25), greedy(rounds=25)],
    ids=["genetic", "gradient", "greedy"],
)
def test_the_best_is_never_lost_nor_a_candidate_scored_twice_in_a_row(search):
    losses = Planted([[3, 17, 9]])
    (hunt,) = run(search, losses, (0,))
    everything = [row for batch in losses.scored for row in batch]
    assert hunt.tried == len(everything)
    assert all(len(set(batch)) == len(batch) for batch in losses.scored)
    assert all(not set(a) & set(b) for a, b in zip(losses.scored, losses.scored[1:], strict=False))
    rows = torch.tensor(everything)
    assert hunt.value == losses.values(rows[:, 0], rows[:, 1:]).min()


def test_as_many_of_the_best_are_remembered_as_are_asked_for():
    losses = Planted([[3, 17, 9]])
    ((hunt,),) = minimise(genetic(rounds=20), losses, WORDS, TOKENS, [generator(0)], keep=5)
    scored = torch.tensor(sorted({row for batch in losses.scored for row in batch}))
    values = losses.values(scored[:, 0], scored[:, 1:])
    best = values.argsort()[:5]
    assert [row.tolist() for row, _ in hunt.leaders()] == scored[best, 1:].tolist()
    assert [value for _, value in hunt.leaders()] == values[best].tolist()
    assert hunt.leaders()[0][0].tolist() == hunt.best.tolist()


def test_several_starts_are_searches_of_their_own_for_the_same_prompt():
    """They share what a prompt remembers, and nothing depends on the prompts beside it."""
    planted = [[3, 17, 9], [39, 0, 21]]
    seen = Planted(planted)
    hunts = minimise(descent(starts=4, rounds=2), seen, WORDS, TOKENS, [generator(0), generator(1)], keep=6)
    assert [len(own) for own in hunts] == [4, 4]
    assert {row[0] for row in seen.scored[0]} == {0, 1}
    for row in range(2):
        own, losses = hunts[row], Planted(planted[row : row + 1])
        assert len({hunt.first for hunt in own}) == 4
        assert [len(hunt.leaders()) for hunt in own] == [2] * 4
        (alone,) = minimise(descent(starts=4, rounds=2), losses, WORDS, TOKENS, [generator(row)], keep=6)
        assert [hunt.best.tolist() for hunt in alone] == [hunt.best.tolist() for hunt in own]
        at = torch.stack([hunt.best for hunt in own])
        values = losses.values(torch.zeros(4, dtype=torch.long), at)
        assert [hunt.value for hunt in own] == values.tolist()


def test_what_cannot_be_taken_is_no_leader_and_not_the_first():
    class Barred(Planted):
        def values(self, rows, candidates):
            return (
                super().values(rows, candidates).masked_fill((candidates % 2 == 1).any(dim=1), float("inf"))
            )

    losses = Barred([[3, 17, 9]])
    ((hunt,),) = minimise(genetic(rounds=8), losses, WORDS, TOKENS, [generator(0)], keep=30)
    assert 0 < len(hunt.leaders()) < 30
    assert not any((row % 2).any() for row, _ in hunt.leaders())
    assert hunt.value <= hunt.first < float("inf")


def test_a_climb_takes_the_best_word_of_each_place_and_begins_anew_where_none_is_better():
    """The loss is a sum over places: one sweep finds the best, a second nothing, and a new start follows."""
    losses = Planted([[3, 17, 9]])
    (hunt,) = run(greedy(rounds=3), losses, (0,))
    assert hunt.best.tolist() == [3, 17, 9]
    assert hunt.tried <= 3 * (WORDS + 1)
    (hunt,) = run(greedy(rounds=6), losses, (0,))
    assert hunt.at.tolist() != [3, 17, 9]
    assert hunt.best.tolist() == [3, 17, 9]
    few = Planted([[3, 17, 9]])
    run(greedy(rounds=1, candidates=4), few, (0,))
    assert len(few.scored[0]) == 5
    assert len({row[2:] for row in few.scored[0]}) == 1  # all but the first place stay


def test_the_best_of_a_herd_survives_every_generation():
    hunt = genetic(mutation=1.0).start(WORDS, TOKENS, generator(0))
    losses = Planted([[3, 17, 9]])
    best = float("inf")
    for _ in range(30):
        asked = hunt.ask(None)
        hunt.tell(asked, losses.values(torch.zeros(len(asked), dtype=torch.long), asked))
        value = losses.values(torch.tensor([0]), hunt.members[:1]).item()
        assert value == hunt.value <= best
        best = value


@pytest.mark.parametrize("search", [genetic(patience=3), descent(patience=3)], ids=["genetic", "gradient"])
def test_a_prompt_without_progress_leaves_the_batch(search):
    class Flat(Planted):
        def values(self, rows, candidates):
            super().values(rows, candidates)
            return torch.where(rows == 0, 1.0, -1.0 * len(self.scored))

    losses = Flat([[0, 0, 0], [1, 1, 1]])
    run(search, losses, (0, 1))
    rounds = [{row[0] for row in batch} for batch in losses.scored]
    assert rounds[:4] == [{0, 1}] * 4
    assert rounds[4:] == [{1}] * (search.rounds - 4)


def test_a_herd_of_twins_finds_something_new():
    ((hunt,),) = minimise(
        genetic(population=2, rounds=200, crossover=0.0), Planted([[7]]), WORDS, 1, [generator(0)]
    )
    assert hunt.best.tolist() == [7]


def test_each_crossed_parent_is_followed_by_two_children_that_share_its_words():
    parents = torch.arange(12).reshape(3, 4)
    crossing, mates = torch.tensor([True, False, True]), torch.tensor([2, 0, 0])
    found = crossed(parents, crossing, mates, torch.tensor([1, 2, 3]))
    assert found.tolist() == [
        [0, 1, 2, 3],
        [0, 9, 10, 11],
        [8, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
        [8, 9, 10, 3],
        [0, 1, 2, 11],
    ]


def test_a_mutation_changes_one_word_of_those_that_change():
    members = torch.zeros(3, 4, dtype=torch.long)
    changing, places = torch.tensor([False, True, True]), torch.tensor([0, 1, 3])
    found = mutated(members, changing, places, torch.tensor([5, 6, 7]))
    assert found.tolist() == [[0] * 4, [0, 6, 0, 0], [0, 0, 0, 7]]
    assert not members.any()


def test_swaps_are_the_likeliest_of_every_place_equally_often():
    slopes = torch.randn(TOKENS, WORDS, generator=generator(2))
    at = slopes.argmin(dim=1)  # the likeliest word of each place is there already
    swaps = likely_swaps(at, slopes, top=1, count=9, generator=generator(0))
    wanted = slopes.argsort(dim=1)[:, 1]
    changed = swaps != at
    assert changed.sum(dim=1).tolist() == [1] * 9
    assert changed.sum(dim=0).tolist() == [3] * 3
    assert (swaps == torch.where(changed, wanted, at)).all()


def test_the_likeliest_swap_of_a_place_is_the_best_for_a_loss_that_is_linear():
    weights = torch.randn(TOKENS, WORDS, generator=generator(3))
    at = torch.tensor([4, 5, 6])
    swaps = likely_swaps(at, weights, top=1, count=TOKENS, generator=generator(0))
    for place in range(TOKENS):
        options = [[*at[:place].tolist(), word, *at[place + 1 :].tolist()] for word in range(WORDS)]
        values = {
            tuple(row): weights[torch.arange(TOKENS), torch.tensor(row)].sum().item() for row in options
        }
        values.pop(tuple(at.tolist()))
        assert tuple(swaps[swaps[:, place] != at[place]][0].tolist()) == min(values, key=values.get)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: genetic(rounds=0), "rounds: must be at least 1"),
        (lambda: genetic(patience=0), "patience: must be at least 1"),
        (lambda: genetic(population=1), "population: must be at least 2"),
        (lambda: genetic(mutation=1.5), "mutation: must be from 0 to 1"),
        (lambda: descent(candidates=0), "candidates: must be at least 1"),
        (lambda: descent(top=0), "top: must be at least 1"),
        (lambda: descent(starts=0), "starts: must be at least 1"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()
