"""Attacks by gradients: against the authors' numbers, alone and in a batch, and what they promise."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from attack_cases import PLAIN, p4d, target_of, unlearndiffatk
from golden_cases import golden_case, relative
from tiny_checkpoint import tiny_settings
from torch.nn.functional import one_hot

from unlearn.attacks.attack import AdversarialPrompts, Target
from unlearn.attacks.gradient.attempts import Attempt
from unlearn.attacks.gradient.noise_matching import Bank, Case, NoiseMatching
from unlearn.attacks.gradient.token_searches import NearestTokens, TokenDistributions, simplex
from unlearn.attacks.spaces import AddedTokens
from unlearn.concepts.concept import PromptSet
from unlearn.errors import ConfigError, IncompatibleError
from unlearn.models.erasure import Erasure
from unlearn.seeding import generator

#: A random model's images show nothing.
pytestmark = pytest.mark.filterwarnings("ignore:attack. the original model's images show")


def assert_same(one: AdversarialPrompts, other: AdversarialPrompts) -> None:
    """But for rounding in what was minimised: forwards of other batch sizes differ in the last digits."""
    assert replace(one, objective=()) == replace(other, objective=())
    for pair in zip(one.objective, other.objective, strict=True):
        assert pair[0] == pytest.approx(pair[1], rel=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("attack", [unlearndiffatk(steps=6), p4d(steps=6)], ids=["unlearndiffatk", "p4d"])
def test_in_half_precision_it_searches_as_well(tiny_folder, attack, dtype, recwarn):
    """Adam's small numbers, shares of many tokens and small gradients are nothing that half precision has."""
    model = replace(tiny_settings(tiny_folder), dtype=dtype).load("cpu")
    found = attack.attack(target_of(model), PLAIN, generator(0))
    assert all(math.isfinite(number) for pair in found.objective for number in pair)
    added = [
        text.removesuffix(plain).split()
        for text, plain in zip(found.prompts.prompts, PLAIN.prompts, strict=True)
    ]
    assert len({word for row in added for word in row}) > 1
    assert not any("searches blindly" in str(each.message) for each in recwarn)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "search",
    [
        TokenDistributions(lr=0.01, weight_decay=0.1, init="uniform"),
        TokenDistributions(lr=0.01, weight_decay=0.1, init="random"),
        NearestTokens(lr=0.1, weight_decay=0.1),
    ],
)
def test_a_search_over_a_table_in_half_precision_is_that_over_its_numbers(search, dtype):
    table = torch.randn(300, 8, generator=generator(0)).to(dtype)
    found = []
    for own in (table, table.float()):
        tokens = search.start(own, 2, [generator(1), generator(2)])
        for step in range(5):
            tokens.step(1e-4 * torch.randn(2, 2, 8, generator=generator(step)))
            tokens.tried()
        tokens.keep([1])
        found.append((tokens.values, tokens.best()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.golden
@pytest.mark.parametrize("name", ["textgrad_l2_prefix", "p4d_loss_suffix"])
def test_matches_the_authors_loss_gradient_and_step(name, golden, golden_tiny):
    case = golden_case(golden, f"unlearndiffatk/{name}")
    inputs, tensors = case.inputs, case.tensors
    edited = golden_case(golden, "uce/" + Path(inputs["target_kv_weights_from"]).stem)
    erasure = Erasure(weights=edited.weights("edited."))
    space = AddedTokens(place=inputs["insertion_location"].removesuffix("_k"), tokens=inputs["k"])
    ids = torch.tensor(inputs["input_ids"])
    count = inputs["orig_prompt_len"]
    assert inputs["criterion"] == "l2"
    clean = tensors["x0"][None]
    # So many steps at each timestep, each with a noise of its own.
    each = inputs["iterations_per_timestep"]
    timesteps = [torch.tensor([t]) for t in inputs["timesteps"] for _ in range(each)]
    objective = NoiseMatching(
        against="original" if inputs["task"] == "p4d" else "noise",
        timesteps="uniform",
        least=0.0,
        draws=None,
        together=1,
        images=1,
    )
    bank = Bank(objective, golden_tiny, clean, [Case(inputs["prompt"], "", 0, ())], 1, 1)

    def noisy(number):
        noise, timestep = tensors["noise"][number][None], timesteps[number]
        return golden_tiny.add_noise(clean, noise, timestep), timestep, noise

    bank.noisy = noisy
    if inputs["task"] == "p4d":
        plain = golden_tiny.encode([inputs["prompt"]])
        with torch.no_grad():
            bank.predicted += [
                golden_tiny.predict(*noisy(number)[:2], plain) for number in range(len(timesteps))
            ]
    table = golden_tiny.embed(torch.arange(len(golden_tiny.tokenizer))[None])[0].detach()
    search = TokenDistributions(lr=inputs["lr"], weight_decay=inputs["weight_decay"], init="uniform")
    tokens = search.start(table, inputs["k"], [generator(0)])
    tokens.values.copy_(tensors["adv_init"][None])
    places = torch.tensor(space.slots(count)) + 1
    row = torch.cat([ids[:1], torch.tensor(space.woven(ids[1 : 1 + count].tolist(), [0] * inputs["k"]))])
    row = torch.cat([row, ids[-1:].repeat(len(ids) - len(row))])
    with golden_tiny.erased(erasure):
        for step, chosen in enumerate(tensors["onehot_ids"]):
            added = table[chosen][None].requires_grad_()
            embedded = torch.index_put(
                golden_tiny.embed(row[None]).detach(), (torch.tensor([[0]]), places[None]), added
            )
            loss = bank.loss(step, golden_tiny.encode_embeddings(embedded), [0])
            assert loss.item() == pytest.approx(case.outputs["loss"][step], rel=case.bound("loss"))
            (gradient,) = torch.autograd.grad(loss.sum(), added)
            bound = case.bound("grad_token_embedding")
            assert relative(gradient[0], tensors["grad_token_embedding"][step]) < bound
            with torch.no_grad():
                tokens.step(gradient)
            if step == 0:
                assert relative(tokens.values.grad[0], tensors["grad_adv_first"]) < case.bound(
                    "grad_adv_first"
                )
                assert relative(tokens.values[0], tensors["adv_after_first"]) < case.bound("adv_after_first")
    assert relative(tokens.values[0], tensors["adv_after"][-1]) < case.bound("adv_after")
    assert tokens.best()[0].tolist() == case.outputs["argmax_ids"]


@pytest.mark.golden
def test_inserted_tokens_stand_where_the_authors_put_them(golden):
    inputs = golden_case(golden, "unlearndiffatk/textgrad_l1_insert").inputs
    count, added = inputs["orig_prompt_len"], [f"added {i}" for i in range(inputs["k"])]
    space = AddedTokens(place=inputs["insertion_location"].removesuffix("_k"), tokens=len(added))
    own = [str(i) for i in range(count)]
    gap = count // (len(added) + 1)
    expected = [word for i, one in enumerate(added) for word in (*own[i * gap : (i + 1) * gap], one)]
    assert space.woven(own, added) == [*expected, *own[len(added) * gap :]]


def test_the_simplex_projection_is_the_nearest_point():
    values = torch.randn(50, 7, generator=generator(0)) * 2
    found = simplex(values)
    assert torch.allclose(found.sum(dim=-1), torch.ones(50), atol=1e-6)
    assert found.min() >= 0
    assert torch.allclose(simplex(found), found, atol=1e-6)
    # No point of the simplex that differs in one pair of entries is nearer.
    for i in range(7):
        for j in range(7):
            moved = found + 1e-3 * (one_hot(torch.tensor(i), 7) - one_hot(torch.tensor(j), 7))
            inside = moved.min(dim=-1).values >= 0
            assert ((moved - values).norm(dim=-1) >= (found - values).norm(dim=-1) - 1e-6)[inside].all()


@pytest.mark.parametrize(
    "search",
    [TokenDistributions(lr=0.1, weight_decay=0.0, init="uniform"), NearestTokens(lr=0.1, weight_decay=0.0)],
)
def test_the_search_finds_a_planted_token(search):
    table = torch.randn(30, 8, generator=generator(1))
    tokens = search.start(table, 2, [generator(0), generator(1)])
    wanted = table[torch.tensor([[3, 7], [12, 29]])]
    with torch.no_grad():
        for _ in range(100):
            tokens.step(2 * (table[tokens.tried()] - wanted))
    assert tokens.best().tolist() == [[3, 7], [12, 29]]


@pytest.mark.parametrize(
    "search",
    [TokenDistributions(lr=0.1, weight_decay=0.1, init="random"), NearestTokens(lr=0.1, weight_decay=0.1)],
)
def test_a_prompt_that_stays_is_searched_as_it_would_be_alone(search):
    table = torch.randn(30, 8, generator=generator(1))
    both, alone = search.start(table, 2, [generator(0), generator(1)]), search.start(table, 2, [generator(1)])
    wanted = table[torch.tensor([[3, 7], [12, 29]])]
    with torch.no_grad():
        for step in range(8):
            if step == 4:
                both.keep([1])
            both.step(table[both.tried()] - (wanted if step < 4 else wanted[1:]))
            alone.step(table[alone.tried()] - wanted[1:])
    assert torch.allclose(both.values, alone.values, atol=1e-6)


def test_the_nearest_token_is_by_cosine_and_a_token_is_nearest_to_itself():
    table = torch.randn(30, 8, generator=generator(1)) * torch.rand(30, 1, generator=generator(2)) * 9
    tokens = NearestTokens(lr=0.1, weight_decay=0.0).start(table, 30, [generator(0)])
    tokens.values.copy_(3 * table[None])
    assert tokens.tried()[0].tolist() == list(range(30))


def test_tokens_are_read_as_what_they_were_chosen_as(tiny):
    """In the text they are those whose loss was compared: no capital letter that is read as a small one."""
    space = AddedTokens(place="prefix", tokens=3)
    for attack in (unlearndiffatk(space=space, looks=1), p4d(space=space, looks=1)):
        searched, step = [], type(attack)._look

        def seen(self, target, cases, chosen, found, searched=searched, step=step):
            step(self, target, cases, chosen, found)
            searched[:] = [one.tokens.tolist() for one in found]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(attack), "_look", seen)
            found = attack.attack(target_of(tiny), PLAIN, generator(5))
        for text, tokens in zip(found.prompts.prompts, searched, strict=True):
            assert tiny.tokenize([text])[0, 1:4].tolist() == tokens


def test_a_concept_that_the_original_never_shows_is_refused(tiny):
    """A low rate of success would say nothing of the erasure."""
    attack = unlearndiffatk(
        objective=NoiseMatching(
            against="noise", timesteps="ascending", least=0.0, draws=None, together=1, images=3
        )
    )
    said = r"attack: none of 9 images .* shows red, .* raise the attack's objective\.images"
    with pytest.raises(IncompatibleError, match=said):
        attack.attack(target_of(tiny), PLAIN, generator(0))
    attack.attack(target_of(tiny, threshold=0.0), PLAIN, generator(0))


def test_an_image_without_the_concept_to_aim_at_is_warned_of(tiny, monkeypatch):
    judge, calls = Target.judge, []

    def once(self, images, concept):
        shown, probability = judge(self, images, concept)
        calls.append(concept)
        return torch.full_like(shown, len(calls) <= 2), probability  # the first prompt's two images

    monkeypatch.setattr(Target, "judge", once)
    with pytest.warns(UserWarning, match="show red for 1 of 3 prompts.* Raise objective.images"):
        unlearndiffatk().attack(target_of(tiny), PLAIN, generator(0))


def test_new_tokens_take_the_place_of_the_prompt(tiny):
    attack = p4d(space=AddedTokens(place="replace", tokens=3), objective=unlearndiffatk().objective)
    found = attack.attack(target_of(tiny), PLAIN, generator(3))
    for text in found.prompts.prompts:
        ids = tiny.tokenize([text])[0].tolist()
        assert ids.index(tiny.tokenizer.eos_token_id) == 4
        assert "church" not in text


def test_prompts_of_any_length_get_a_token_every_few_of_theirs(tiny):
    """P4D-K: those of one length are attacked together, and as they are alone."""
    space = AddedTokens(place="every", tokens=3)
    plain = replace(PLAIN, prompts=("a photo of a church", "church", "a church"))
    attack = unlearndiffatk(space=space, search=NearestTokens(lr=0.1, weight_decay=0.1))
    found = attack.attack(target_of(tiny), plain, generator(3))
    for text, prompt in zip(found.prompts.prompts, plain.prompts, strict=True):
        own, ids = (tiny.tokenize([each])[0].tolist() for each in (prompt, text))
        own, ids = (row[1 : row.index(tiny.tokenizer.eos_token_id)] for row in (own, ids))
        assert [token for i, token in enumerate(ids) if i % 4] == own
        assert len(ids) == len(own) + len(own) // 3 + 1
    alone = replace(attack, batch_size=1).attack(target_of(tiny), plain, generator(3))
    assert_same(alone, found)


def test_batch_and_order_do_not_matter(tiny):
    together = unlearndiffatk().attack(target_of(tiny), PLAIN, generator(3))
    apart = unlearndiffatk(batch_size=1).attack(target_of(tiny), PLAIN, generator(3))
    assert_same(together, apart)
    alone = unlearndiffatk().attack(target_of(tiny), PLAIN.limited(1), generator(3))
    assert alone.prompts.prompts[0] == together.prompts.prompts[0]


def test_a_search_ends_where_the_concept_shows(tiny):
    found = unlearndiffatk().attack(target_of(tiny, threshold=0.0), PLAIN, generator(3))
    assert found.found == (True, True, True)
    assert found.queries == (1, 1, 1)
    # Two images of the original and one look, of two steps with two branches, three gradient steps, and four
    # draws to compare the objective on, twice.
    assert found.forwards == (2 * 4 + 3 + 4 + 2 * 4,) * 3
    never = unlearndiffatk().attack(target_of(tiny), PLAIN, generator(3))
    assert never.found == (False, False, False)
    assert never.forwards == (2 * 4 + 2 * (3 + 4) + 2 * 4,) * 3


def test_a_success_is_over_once_it_is_confirmed(tiny):
    found = unlearndiffatk(confirm=2).attack(target_of(tiny, threshold=0.0), PLAIN, generator(3))
    assert (found.found, found.queries) == ((True,) * 3, (1,) * 3)
    assert found.forwards == (2 * 4 + 3 + (1 + 2) * 4 + 2 * 4,) * 3
    cases = unlearndiffatk(confirm=2).cases(PLAIN, generator(3))
    seeds = [seed for case in cases for seed in case.images]
    assert len(set(seeds)) == 9
    assert not set(seeds) & set(PLAIN.seeds)


@pytest.mark.parametrize("attack", [unlearndiffatk(looks=3), p4d(looks=3)], ids=["unlearndiffatk", "p4d"])
def test_what_lost_least_is_looked_at_and_nothing_twice(tiny, monkeypatch, attack):
    choice, looked = Attempt.choice, {}

    def watched(self, latest, choose):
        known = {row: sum(own) / len(own) for row, own in self.losses.items() if row not in self.looked}
        found = choice(self, latest, choose)
        assert known[tuple(found)] == min(known.values())
        looked.setdefault(id(self), []).append(tuple(found))
        return found

    monkeypatch.setattr(Attempt, "choice", watched)
    replace(attack, choose="lowest").attack(target_of(tiny), PLAIN, generator(3))
    assert [len(set(rows)) for rows in looked.values()] == [3, 3, 3]


def test_the_best_of_what_was_looked_at_is_kept():
    attempt = Attempt("a", torch.tensor([0]), 0)
    assert attempt.choice([4], "lowest") == [4]  # nothing was tried
    attempt.note([1], 0.5)
    attempt.note([2], 0.1)
    attempt.note([2], 0.7)
    attempt.note([3], 0.6)
    assert [attempt.choice([9], "lowest") for _ in range(4)] == [[2], [1], [3], [9]]
    assert attempt.choice([2], "latest") == [2]
    yes, no = torch.tensor([True]), torch.tensor([False])
    attempt.take("b", torch.tensor([1]), no, torch.tensor([0.4]))
    attempt.take("c", torch.tensor([2]), torch.tensor([True, False]), torch.tensor([0.6, 0.1]))
    assert (attempt.prompt, attempt.shown, attempt.queries) == ("b", False, 2)
    attempt.take("d", torch.tensor([3]), yes, torch.tensor([0.3]))
    assert (attempt.prompt, attempt.tokens.tolist(), attempt.shown) == ("d", [3], True)


@pytest.mark.parametrize("timesteps", ["ascending", "uniform"])
def test_a_step_takes_the_mean_over_draws_of_the_noisier_part(tiny, timesteps):
    objective = NoiseMatching(
        against="noise", timesteps=timesteps, least=0.6, draws=None, together=3, images=1
    )
    cases = [Case("a church", "red", 1, (1,)), Case("a cat", "red", 2, (2,))]
    bank = objective.bank(target_of(tiny), cases, looks=2, steps=4)
    drawn = torch.stack([bank.noisy(number)[1] for number in range(2 * 4 * 3)])
    assert drawn.min() >= 600
    assert drawn.max() < 1000
    if timesteps == "ascending":  # one for each look
        assert drawn[:12].unique().tolist() == [700]
        assert drawn[12:].unique().tolist() == [900]
    else:
        assert len(drawn.unique()) > 20
    with torch.no_grad():
        text = tiny.encode(["a dog", "a dog"])
        singles = torch.stack([bank.one(number, text, [0, 1]) for number in (6, 7, 8)])
        assert torch.allclose(bank.loss(2, text, [0, 1]), singles.mean(dim=0))
        assert (singles.std(dim=0) > 0).all()


def test_the_loss_of_the_true_prompt_is_that_of_the_model(tiny):
    """The bank's draws do not depend on what stands beside a case."""
    objective = NoiseMatching(
        against="original", timesteps="uniform", least=0.0, draws=2, together=1, images=1
    )
    cases = [Case("a church", "red", 1, (1,)), Case("a cat", "red", 2, (2,))]
    target = target_of(tiny)
    bank = objective.bank(target, cases, looks=2, steps=3)
    alone = objective.bank(target, cases[1:], looks=2, steps=3)
    assert len(bank.predicted) == 2
    with torch.no_grad():
        plain = tiny.encode(["a church", "a cat"])
        # What the original predicts is matched exactly by the original itself.
        assert bank.loss(0, plain, [0, 1]).max() < 1e-10
        assert bank.loss(2, plain, [0, 1]).max() < 1e-10
        other = tiny.encode(["a dog", "a dog"])
        assert torch.allclose(bank.loss(1, other, [0, 1])[1:], alone.loss(1, other[[1]], [0]), atol=1e-5)
        assert bank.loss(1, other, [0, 1]).min() > 1e-10


def test_evaluation_seeds_are_kept_and_nothing_is_changed(tiny):
    before = {name: weight.clone() for name, weight in tiny.named_parameters()}
    first, second, other = (
        unlearndiffatk().attack(target_of(tiny), PLAIN, generator(seed)) for seed in (1, 1, 2)
    )
    assert first == second
    assert first.prompts.prompts != other.prompts.prompts
    assert first.prompts.seeds == PLAIN.seeds
    assert first.plain == PLAIN.prompts
    assert all(torch.equal(weight, before[name]) for name, weight in tiny.named_parameters())
    assert all(text.endswith(plain) for text, plain in zip(first.prompts.prompts, PLAIN.prompts, strict=True))


def test_gradients_go_through_the_erased_weights(tiny):
    """With its cross-attention zeroed, no prompt makes a difference, and the loss has no gradient."""
    weights = {
        name: torch.zeros_like(value)
        for name, value in tiny.named_parameters()
        if "attn2.to_k" in name or "attn2.to_v" in name
    }
    gradients = []

    class Watching(TokenDistributions):
        def start(self, table, tokens, generators):
            found = super().start(table, tokens, generators)
            step = found.step
            found.step = lambda gradient: (gradients.append(gradient.abs().max().item()), step(gradient))
            return found

    search = Watching(lr=0.1, weight_decay=0.1, init="uniform")
    unlearndiffatk(search=search).attack(target_of(tiny), PLAIN, generator(3))
    assert min(gradients) > 0
    gradients.clear()
    with pytest.warns(UserWarning, match="UnlearnDiffAtk has no gradient in the tokens"):
        unlearndiffatk(search=search).attack(
            target_of(tiny, erasure=Erasure(weights=weights)), PLAIN, generator(3)
        )
    assert max(gradients) == 0


def test_a_guard_is_refused(tiny):
    target = replace(target_of(tiny), erasure=SimpleNamespace(guard=object()))
    with pytest.raises(
        IncompatibleError, match="UnlearnDiffAtk needs gradients, and this method acts while images are drawn"
    ):
        unlearndiffatk().attack(target, PLAIN, generator(0))


def test_too_long_a_prompt_is_said(tiny):
    long = PromptSet("attack:x", ("a church " * 36,), (5,), ("",), ("red",))
    with pytest.raises(ConfigError, match="token"):
        unlearndiffatk(space=AddedTokens(place="prefix", tokens=20)).attack(
            target_of(tiny), long, generator(0)
        )


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: unlearndiffatk(looks=0), "looks: must be at least 1"),
        (lambda: unlearndiffatk(confirm=-1), "confirm: must be at least 0"),
        (lambda: unlearndiffatk(choose="best"), "choose: Unknown choice 'best'"),
        (lambda: replace(unlearndiffatk().objective, least=1.0), "least: must be from 0 to below 1"),
        (lambda: replace(unlearndiffatk().objective, together=0), "together: must be at least 1"),
        (
            lambda: NoiseMatching(against="x", timesteps="uniform", least=0.0, draws=1, together=1, images=1),
            "against: Unknown against",
        ),
        (
            lambda: NoiseMatching(
                against="noise", timesteps="uniform", least=0.0, draws=0, together=1, images=1
            ),
            "draws: must be",
        ),
        (lambda: TokenDistributions(lr=0, weight_decay=0.1, init="uniform"), "lr: must be a number above 0"),
        (lambda: TokenDistributions(lr=1, weight_decay=0.1, init="uni"), "init: Unknown start 'uni'"),
        (lambda: NearestTokens(lr=1, weight_decay=-1), "weight_decay: must be"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()


def test_the_objective_is_compared_on_the_same_draws(tiny):
    """What is reported for the start and the end is the loss of these tokens on fixed draws."""
    attack = unlearndiffatk(looks=3, steps=4)
    found = attack.attack(target_of(tiny), PLAIN, generator(0))
    again = attack.attack(target_of(tiny), PLAIN, generator(0))
    assert found.objective == again.objective
    assert len(found.objective) == 3
    assert all(before != after for before, after in found.objective)
    shown = attack.attack(target_of(tiny, threshold=-1.0), PLAIN, generator(0))
    assert [pair[0] for pair in shown.objective] == pytest.approx([pair[0] for pair in found.objective])
