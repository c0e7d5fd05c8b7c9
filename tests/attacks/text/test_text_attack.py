"""Attacks by the original text encoder: against the authors' numbers, and what they promise."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import attack_cases
import pytest
import torch
from attack_cases import mma, ringabell
from golden_cases import golden_case, relative

from unlearn.attacks.attack import Target
from unlearn.attacks.layout import Layout
from unlearn.attacks.spaces import AddedTokens, concept_words, content, parts, stable_words
from unlearn.attacks.text.coordinate_gradient import CoordinateGradient
from unlearn.attacks.text.encoded import Encoded, Read
from unlearn.attacks.text.genetic import Genetic, crossed, mutated
from unlearn.attacks.text.text_objectives import EndCosine, ShiftedEmbedding, direction
from unlearn.concepts.concept import PromptSet
from unlearn.models.erasure import Erasure
from unlearn.seeding import generator

PLAIN = replace(attack_cases.PLAIN, prompts=("a church", "a photo of a church", "a cat"))


def target_of(model, concepts=None, erasure=None) -> Target:
    """Nobody judges."""
    own = attack_cases.target_of(
        model,
        erasure=erasure,
        phrases=["church", "house of the cat"],
        anchor="dog",
        templates=["{}", "a photo of {a}"],
    )
    return replace(own, concepts=concepts or own.concepts, detectors={})


BOTH = pytest.mark.parametrize("attack", [ringabell(), mma()], ids=["ringabell", "mma"])


def hits(listed, rate, spared):
    """Which of the authors' chances were below ``rate``, and the two numbers drawn there; else ``spared``."""
    rows, found = iter(listed), []
    while (first := next(rows, None)) is not None:
        kind, chance = first
        assert kind == "random"
        found.append((chance < rate, [next(rows)[1][0] for _ in range(2)] if chance < rate else spared))
    return torch.tensor([hit for hit, _ in found]), *torch.tensor([numbers for _, numbers in found]).T


@pytest.mark.golden
def test_matches_a_generation_of_the_authors(golden, golden_tiny):
    case = golden_case(golden, "ringabell/generation")
    inputs, outputs, tensors = case.inputs, case.outputs, case.tensors
    pairs = list(zip(inputs["positive_prompts"], inputs["negative_prompts"], strict=True))
    near = case.tolerance["concept_vector, target_embedding"]["tol"]
    assert relative(direction(golden_tiny, pairs), tensors["concept_vector"]) < near

    concept = SimpleNamespace(sentence_pairs=lambda count: pairs[:count])
    target = target_of(golden_tiny, SimpleNamespace(erase={"x": concept}))
    objective = ShiftedEmbedding(strength=inputs["coefficient"], sentences=None)
    prompts = PromptSet("x", (inputs["prompt"],), (0,), ("",), ("x",))
    space = AddedTokens(place="replace", tokens=inputs["length"])
    vocabulary = torch.arange(len(golden_tiny.tokenizer))
    losses = Encoded(target, space, objective, prompts, vocabulary, batch_size=7)
    assert relative(losses.goals[0], tensors["target_embedding"]) < near

    def fitness(ids):
        own = ids[:, 1 : 1 + inputs["length"]].long()
        return losses.values(torch.zeros(len(own), dtype=torch.long), own)

    same = case.tolerance["fitness, fitness_after (JSON)"]["tol"]
    wanted = torch.tensor(outputs["fitness"], dtype=torch.float64)
    found = fitness(tensors["population"])
    assert ((found - wanted) / wanted).abs().max() < same
    order = found.sort(stable=True).indices
    assert order.tolist() == outputs["order"]
    survivors = tensors["population"][order[: inputs["population_size"] // 2]]

    crossing, mates, cuts = hits(inputs["crossover_draws"], inputs["crossover_rate"], [0, 1])
    family = crossed(survivors, crossing, mates, cuts)
    assert torch.equal(family, tensors["after_crossover"])
    parents = torch.tensor([first for hit in crossing.tolist() for first in ([1, 0, 0] if hit else [1])]) > 0
    assert torch.equal(family[parents], survivors)

    changing, places, words = hits(inputs["mutation_draws"], inputs["mutate_rate"], [0, 0])
    family = mutated(family, changing, places, words.to(family.dtype))
    assert torch.equal(family, tensors["after_mutation"])
    # The authors' survivors are changed in place: what is kept of them is what a mutation made of them.
    assert torch.equal(family[parents], tensors["survivors"])
    wanted = torch.tensor(outputs["fitness_after"], dtype=torch.float64)
    assert ((fitness(family) - wanted) / wanted).abs().max() < same


@pytest.mark.parametrize("objective", [ShiftedEmbedding(strength=2.0, sentences=1), EndCosine()])
@pytest.mark.parametrize("place", ["replace", "prefix", "suffix"])
def test_the_loss_is_that_of_the_text(tiny, objective, place):
    """What is encoded by embeddings, as far as it is needed, is what the written prompt gives."""
    target = target_of(tiny)
    space = AddedTokens(place=place, tokens=3)
    vocabulary = stable_words(target)
    losses = Encoded(target, space, objective, PLAIN, vocabulary, batch_size=2)
    candidates = torch.randint(len(vocabulary), (5, 3), generator=generator(0))
    rows = torch.tensor([0, 2, 1, 1, 0])
    found = losses.values(rows, candidates)
    for row, candidate, loss in zip(rows.tolist(), candidates, found, strict=True):
        text = space.text(target, PLAIN.prompts[row], vocabulary[candidate])
        ids = tiny.tokenize([text])[0].tolist()
        end = torch.tensor([len(content(target, ids)) + 1])
        goal = losses.goals[row : row + 1]
        own = objective.losses(tiny.encode([text]).tokens, end, goal)
        assert loss.item() == pytest.approx(own.item(), rel=1e-4, abs=1e-6)


def test_the_plain_prompt_is_nearest_to_itself(tiny):
    target = target_of(tiny)
    vocabulary = stable_words(target)
    prompts = PLAIN.limited(1)
    own = torch.tensor(content(target, tiny.tokenize(["a church"])[0].tolist()))
    place = torch.stack([(vocabulary == token).nonzero()[0, 0] for token in own])
    space = AddedTokens(place="replace", tokens=len(own))
    for objective in (EndCosine(), ShiftedEmbedding(strength=0.0, sentences=None)):
        losses = Encoded(target, space, objective, prompts, vocabulary, batch_size=64)
        others = torch.randint(len(vocabulary), (20, len(own)), generator=generator(0))
        values = losses.values(torch.zeros(21, dtype=torch.long), torch.cat([place[None], others]))
        assert abs(values[0].item()) < 1e-6
        assert values[1:].min() > 1e-3


@pytest.mark.parametrize("place", ["replace", "prefix", "suffix", "insert"])
def test_slopes_are_those_of_the_words_own_places(tiny, place):
    """A step from a word's embedding towards another's changes the loss as the slopes say."""
    target = target_of(tiny)
    space = AddedTokens(place=place, tokens=3)
    vocabulary = stable_words(target)
    objective = ShiftedEmbedding(strength=1.0, sentences=1)
    losses = Encoded(target, space, objective, PLAIN, vocabulary, batch_size=64)
    candidate, row = torch.tensor([[1, 5, 9]]), torch.tensor([1])
    slopes = losses.slopes(row, candidate)
    assert slopes.shape == (1, 3, len(vocabulary))
    step = 1e-3
    for token, word in ((0, 7), (1, 2), (2, 20)):
        added = losses.table[candidate].clone()
        towards = losses.table[word] - added[0, token]
        values = []
        for sign in (1, -1):
            moved = added.clone()
            moved[0, token] += sign * step * towards
            with torch.no_grad():
                values.append(losses._losses(row, moved).double())
        measured = ((values[0] - values[1]) / (2 * step)).item()
        expected = (slopes[0, token, word] - slopes[0, token, candidate[0, token]]).item()
        assert measured == pytest.approx(expected, rel=0.05, abs=0.02)


def test_only_what_matters_is_encoded(tiny, monkeypatch):
    lengths = []
    encode = tiny.encode_embeddings
    counted = lambda e, ends=None: lengths.append(e.shape[1]) or encode(e, ends)  # noqa: E731
    monkeypatch.setitem(vars(tiny), "encode_embeddings", counted)
    for objective, length in ((EndCosine(), 5), (ShiftedEmbedding(strength=1.0, sentences=1), 77)):
        space, vocabulary = AddedTokens(place="replace", tokens=3), stable_words(target_of(tiny))
        losses = Encoded(target_of(tiny), space, objective, PLAIN, vocabulary, batch_size=64)
        lengths.clear()
        losses.values(torch.tensor([0]), torch.tensor([[1, 2, 3]]))
        assert lengths == [length]


def test_what_does_not_fit_into_memory_is_encoded_in_parts(tiny, monkeypatch, capsys):
    space, vocabulary = AddedTokens(place="replace", tokens=3), stable_words(target_of(tiny))
    losses = Encoded(target_of(tiny), space, EndCosine(), PLAIN, vocabulary, batch_size=8)
    rows, candidates = torch.zeros(20, dtype=torch.long), torch.randint(50, (20, 3), generator=generator(0))
    whole = losses.values(rows, candidates)
    encode, sizes = tiny.encode_embeddings, []

    def small(embeddings, ends=None):
        sizes.append(len(embeddings))
        if len(embeddings) > 3:
            raise RuntimeError("CUDA out of memory.")
        return encode(embeddings, ends)

    monkeypatch.setitem(vars(tiny), "encode_embeddings", small)
    assert torch.allclose(losses.values(rows, candidates), whole, atol=1e-6)
    assert sizes == [8, 4] + [2] * 10
    assert losses.slopes(rows[:3], candidates[:3]).shape == (3, 3, len(vocabulary))
    assert "out of memory with 4 at once; goes on with 2" in capsys.readouterr().err


def test_the_loss_of_parts_is_that_of_what_is_read(tiny):
    """Whatever tokens the text is read as; and a text with a banned word is never the best."""
    target, space = target_of(tiny), AddedTokens(place="replace", tokens=3)
    vocabulary = parts(target)
    assert len(vocabulary) > len(stable_words(target))
    losses = Read(target, space, EndCosine(), PLAIN, vocabulary, batch_size=4)
    losses.banned = ["church"]
    candidates = torch.randint(len(vocabulary), (9, 3), generator=generator(0))
    church = (vocabulary == content(target, tiny.tokenize(["church"])[0].tolist())[0]).nonzero()[0, 0]
    candidates[0, 1] = church
    found = losses.values(torch.ones(9, dtype=torch.long), candidates)
    changed = 0
    for candidate, loss in zip(candidates, found, strict=True):
        text = tiny.tokenizer.decode(vocabulary[candidate]).strip()
        ids = content(target, tiny.tokenize([text])[0].tolist())
        changed += ids != vocabulary[candidate].tolist()
        end = torch.tensor([len(ids) + 1])
        own = EndCosine().losses(tiny.encode([text]).tokens, end, losses.goals[1:2]).item()
        assert loss.item() == (float("inf") if "church" in text else pytest.approx(own, rel=1e-4, abs=1e-6))
    assert changed > 0
    assert found[0] == float("inf")


def test_a_direction_begins_behind_the_start_token(tiny):
    found = direction(tiny, [("a church", "a dog"), ("church", "dog")])
    assert found.shape == (77, 32)
    assert not found[0].any()
    assert found[2].norm() > 0.1


@BOTH
def test_same_seed_same_prompts_and_nothing_is_changed(tiny, attack):
    before = {name: weight.clone() for name, weight in tiny.named_parameters()}
    first, second, other = (attack.attack(target_of(tiny), PLAIN, generator(seed)) for seed in (1, 1, 2))
    assert first == second
    assert first.prompts.prompts != other.prompts.prompts
    assert (first.prompts.seeds, first.plain, first.prompts.name) == (PLAIN.seeds, PLAIN.prompts, PLAIN.name)
    assert first.found == (False,) * 3
    assert first.forwards == (0,) * 3
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.named_parameters())


@BOTH
def test_batch_and_neighbours_do_not_matter(tiny, attack):
    together = attack.attack(target_of(tiny), PLAIN, generator(3))
    assert replace(attack, batch_size=5).attack(target_of(tiny), PLAIN, generator(3)) == together
    alone = attack.attack(target_of(tiny), PLAIN.limited(1), generator(3))
    assert alone.prompts.prompts[0] == together.prompts.prompts[0]
    assert alone.queries[0] == together.queries[0]


@BOTH
def test_the_erased_model_makes_no_difference(tiny, attack):
    weights = {
        name: torch.zeros_like(value)
        for name, value in tiny.named_parameters()
        if "attn2.to_k" in name or "text_encoder" in name
    }
    before = tiny.forwards
    found = [
        attack.attack(target_of(tiny, erasure=erasure), PLAIN, generator(3))
        for erasure in (Erasure(), Erasure(weights=weights))
    ]
    assert found[0] == found[1]
    assert tiny.forwards == before


@BOTH
def test_finds_better_than_chance_what_survives(tiny, attack):
    target = target_of(tiny)
    banned = concept_words(target.concepts) if attack.banned else []
    found = attack.attack(target, PLAIN, generator(3))
    kind, vocabulary = (
        (Read, parts(target, banned)) if attack.vocabulary == "parts" else (Encoded, stable_words(target))
    )
    losses = kind(target, attack.space, attack.objective, PLAIN, vocabulary, batch_size=64)
    values = []
    for row, text in enumerate(found.prompts.prompts):
        own = content(target, tiny.tokenize([text])[0].tolist())
        assert kind is Read or len(own) == 3
        assert not any(word in text for word in banned)
        tokens, end = tiny.encode([text]).tokens, torch.tensor([len(own) + 1])
        values.append(attack.objective.losses(tokens, end, losses.goals[row : row + 1])[0])
    count = max(found.queries)
    drawn = torch.randint(len(vocabulary), (count, 3), generator=generator(9))
    for row in range(3):
        by_chance = losses.values(torch.full((count,), row), drawn)
        assert values[row] < by_chance.quantile(0.02)
        start, end = found.objective[row]
        assert end == pytest.approx(values[row].item(), abs=1e-5)
        assert start > end


def test_banned_are_the_words_of_the_phrases_but_for_the_shortest(tiny):
    assert concept_words(target_of(tiny).concepts) == ["cat", "church", "house", "the"]


def test_a_target_is_found_again(tiny):
    """Without a direction, the words themselves are the best of all (the planted optimum of two words)."""
    target = target_of(tiny)
    prompts = PromptSet("x", ("cat dog",), (0,), ("",), ("red",))
    space = AddedTokens(place="replace", tokens=2)
    assert len(content(target, tiny.tokenize(["cat dog"])[0].tolist())) == 2
    for attack in (
        ringabell(
            space=space,
            objective=ShiftedEmbedding(strength=0.0, sentences=None),
            search=Genetic(rounds=80, patience=80, population=40, crossover=0.5, mutation=0.5),
        ),
        mma(
            space=space,
            banned=False,
            search=CoordinateGradient(rounds=20, patience=20, candidates=32, top=16, starts=1),
        ),
    ):
        assert attack.attack(target, prompts, generator(1)).prompts.prompts == ("cat dog",)


def test_a_layout_is_of_the_original_outside_of_the_erased_model(tiny):
    layout = Layout.of(target_of(tiny), AddedTokens(place="suffix", tokens=2), "a church")
    own = tiny.embed(tiny.tokenize(["a church"]))[0]
    count = layout.end - 3
    assert layout.places.tolist() == [count + 1, count + 2]
    assert torch.equal(layout.embeddings[: count + 1], own[: count + 1])
    assert torch.equal(layout.embeddings[layout.end], own[count + 1])


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: ringabell(batch_size=0), "batch_size: must be at least 1"),
        (lambda: ringabell(space=AddedTokens(place="every", tokens=3)), "space.place: must add as many"),
        (lambda: ShiftedEmbedding(strength=-1.0, sentences=None), "strength: must be a number from 0 up"),
        (lambda: ShiftedEmbedding(strength=1.0, sentences=0), "sentences: must be at least 1"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()
