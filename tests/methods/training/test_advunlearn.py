"""AdvUnlearn: its attack, its two losses, what it trains, and what it costs."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from method_cases import concept_set, configured, golden_case, interrupted, relative
from tiny_checkpoint import tiny_settings, write_tiny
from torch import nn

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.captions import captions, everyday
from unlearn.methods.method import Context, Meter
from unlearn.methods.training.advunlearn import soft_prompt
from unlearn.methods.training.advunlearn.advunlearn import AdvUnlearn, Duel, Latest
from unlearn.methods.training.material.states import States
from unlearn.models.erasure import Erasure
from unlearn.models.files.export import export
from unlearn.models.weights.parameters import select

SMALL = (
    "steps=4",
    "warmup=1",
    "batch_size=2",
    "retain_batch_size=3",
    "retain_sentences=1",
    "retain_objects=false",
    "trajectories=2",
    "retain_trajectories=5",
    "states=4",
    "attack.steps=2",
    "attack.lr=0.01",
    "sampler.steps=4",
    "optimizer.lr=1e-3",
)


def small(*overrides: str, name: str = "advunlearn") -> AdvUnlearn:
    return configured(name, *SMALL, *overrides)


class Recorder(torch.optim.AdamW):
    """Keeps the gradient that each step takes, and what the step makes of it."""

    steps: list[tuple[torch.Tensor, torch.Tensor]]

    def step(self):
        (parameter,) = self.param_groups[0]["params"]
        gradient = parameter.grad.clone()
        super().step()
        type(self).steps.append((gradient[0], parameter.detach().clone()[0]))


PLACES = {"prefix_k": "prefix", "add": "add"}
RULES = {"pgd": "adam", "fast_at": "sign"}


@pytest.mark.golden
@pytest.mark.parametrize("name", ["prefix_pgd", "add_fast_at"])
def test_golden(name, golden, golden_tiny, context, monkeypatch):
    case = golden_case(golden, f"advunlearn/{name}")
    inputs, tensors = case.inputs, case.tensors
    method = configured(
        "advunlearn_released",
        f"attack.place={PLACES[inputs['attack_type']]}",
        f"attack.rule={RULES[inputs['attack_method']]}",
        f"attack.tokens={inputs['k']}",
        f"attack.steps={inputs['attack_step']}",
        f"attack.lr={inputs['attack_lr']}",
        "attack.start=latest",
        f"negative_guidance={inputs['negative_guidance']}",
    )
    times = torch.tensor([*inputs["attack_timesteps"], inputs["train_timestep"]])
    z = tensors["z"].expand(len(times), -1, -1, -1)
    with torch.no_grad():
        word, empty = golden_tiny.encode([inputs["word"]]), golden_tiny.encode([""])
        both = [golden_tiny.predict(z, times, one.repeat(len(times))) for one in (word, empty)]
    states = States(z, times, torch.zeros(len(times), dtype=torch.long), *both)

    slots = method.attack.slots(golden_tiny, [inputs["word"]])
    assert slots.plain[0].tolist() == inputs["input_ids"]
    assert slots.ids[0].tolist() == case.outputs["adv_input_ids"]
    duel = Duel(
        method=method,
        model=golden_tiny,
        parameters=[],
        states=states,
        slots=slots,
        captions=slots.plain,
        gamma=torch.zeros(1),
        context=context,
        latest=Latest(tensors["adv_init"][None]),
    )
    turns = iter(range(len(times)))
    embedded, losses = [], []

    def visited(_self, trajectories, _random):
        row = next(turns)
        # The caption of the last visit stands beside the concept and has the number after it.
        return replace(
            states[torch.tensor([row] * len(trajectories))], prompts=torch.arange(len(trajectories))
        )

    def embed(self, *arguments):
        found = original(self, *arguments)
        embedded.append(found if found.requires_grad else found.requires_grad_())
        return embedded[-1]

    def search(self, start, loss):
        return searched(self, start, lambda *given: losses.append(loss(*given)) or losses[-1])

    original, searched = soft_prompt.SoftPrompt.embed, soft_prompt.SoftPrompt.descend
    monkeypatch.setattr(Duel, "visited", visited)
    monkeypatch.setattr(soft_prompt.SoftPrompt, "embed", embed)
    monkeypatch.setattr(soft_prompt.SoftPrompt, "descend", search)
    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    Recorder.steps = []
    trained = golden_case(
        golden, f"uce/{inputs['trained_model_kv_weights_from'].split('/')[-1].split('.')[0]}"
    )
    with golden_tiny.erased(Erasure(weights=trained.weights("edited."))):
        last = duel.attack(torch.zeros(1, dtype=torch.long), slots, torch.Generator())
        erase, _ = duel.losses(
            torch.zeros(1, dtype=torch.long), slots, torch.zeros(1).long(), torch.Generator()
        )
    (gradient,) = torch.autograd.grad(erase, embedded[-1])

    assert [loss.item() for loss in losses] == pytest.approx(
        case.outputs["attack_loss"], rel=case.bound("attack_loss")
    )
    assert last == pytest.approx(case.outputs["attack_loss"][-1], rel=case.bound("attack_loss"))
    assert erase.item() == pytest.approx(case.outputs["train_loss"], rel=case.bound("train_loss"))
    for step, (taken, after) in enumerate(Recorder.steps):
        assert relative(taken, tensors["grad"][step]) < case.bound("grad")
        expected = tensors["adv_after"][step]
        moved = (expected - tensors["adv_init"]).norm()
        assert (after - expected).norm() / moved < case.bound("adv_after")
    assert len(Recorder.steps) == inputs["attack_step"]
    for key, value in (
        ("attacked_word_embedding", embedded[-1][0].detach()),
        ("train_grad_wrt_word_embedding", gradient[0]),
    ):
        assert relative(value, tensors[key]) < case.bound(key), key


@pytest.fixture
def duel(tiny, context, monkeypatch):
    """A small training before its first step, with its parameters open."""
    method, concepts, kept = small(), concept_set("church", "cat"), {}

    def fit(_selection, step, *_):
        kept.update(duel=step.__self__)
        raise KeyboardInterrupt

    monkeypatch.setattr("unlearn.methods.training.advunlearn.advunlearn.fit", fit)
    with pytest.raises(KeyboardInterrupt):
        method.erase(tiny, concepts, context)
    with select(tiny, method.trained(tiny)) as selection:
        yield replace(kept["duel"], parameters=list(selection.parameters.values()))


def test_states_are_the_originals_and_belong_to_their_prompts(tiny, duel):
    states, kept = duel.states, captions(concept_set("church", "cat"), 1)
    assert states.prompts[: 2 * 4].tolist() == [0] * 4 + [1] * 4
    asked = states.prompts[8:] - 2
    assert asked.tolist() == [i for i in range(5) for _ in range(4)]
    said = duel.captions[asked]
    wanted = {tuple(ids) for ids in tiny.tokenize(kept).tolist()}
    assert {tuple(ids) for ids in said.tolist()} <= wanted
    prompts = torch.cat([duel.slots.plain[states.prompts[:8]], said])
    with torch.no_grad():
        conditional = tiny.predict(
            states.latents, states.timesteps, tiny.encode_embeddings(tiny.embed(prompts))
        )
        unconditional = tiny.predict(states.latents, states.timesteps, tiny.encode([""]).repeat(len(states)))
    assert torch.allclose(states.conditional, conditional, atol=1e-4)
    assert torch.allclose(states.unconditional, unconditional, atol=1e-4)


def test_the_losses_are_those_of_single_predictions(tiny, duel):
    duel.latest.perturbation = 0.1 * torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0))
    chosen, numbers = torch.tensor([1, 0]), torch.tensor([4, 0, 2])
    slots, random = duel.slots[chosen], torch.Generator().manual_seed(5)
    with torch.no_grad():
        erase, retain = duel.losses(chosen, slots, numbers, random)
        random = torch.Generator().manual_seed(5)
        own = duel.visited(duel.trajectories(chosen, random), random)  # the rows are drawn otherwise here
        states = duel.states
    assert own.prompts.tolist() == [1, 0]

    def alone(row, embeddings):
        return tiny.predict(
            states.latents[row : row + 1], states.timesteps[row], tiny.encode_embeddings(embeddings[None])
        )[0]

    # All rows that these sentences and captions may have visited; the loss is a mean over one of each.
    found = []
    with torch.no_grad():
        for place, number in enumerate(chosen.tolist()):
            ids = tiny.tokenize([["church", "cat"][number]])[0]
            table = tiny.embed(ids)
            attacked = torch.cat([table[:1], duel.latest.perturbation[place], table[1:-1]])
            rows = range(4 * number, 4 * number + 4)
            found.append(
                [
                    float(
                        (alone(row, attacked) - (2 * states.unconditional[row] - states.conditional[row]))
                        .square()
                        .mean()
                    )
                    for row in rows
                ]
            )
    assert any(
        float(erase) == pytest.approx((first + second) / 2, rel=1e-4)
        for first in found[0]
        for second in found[1]
    )
    assert float(retain) == pytest.approx(0, abs=1e-8)  # nothing is trained yet


def test_a_training_step_has_the_gradient_of_the_weighted_sum(duel):
    composed = duel.step(0)
    assert composed.values.keys() == {"loss", "erase", "retain"}
    assert composed.values["loss"] == pytest.approx(
        composed.values["erase"] + 0.5 * composed.values["retain"], rel=1e-5
    )
    parameters = duel.parameters
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.01
    composed = duel.step(0)
    assert composed.values["retain"] > 1e-6
    index = max(range(len(parameters)), key=lambda i: float(composed.gradients[i].norm()))
    direction = composed.gradients[index] / composed.gradients[index].norm()
    values = []
    for sign in (1, -1):
        parameters[index].data += sign * 1e-2 * direction
        values.append(duel.step(0).values["loss"])
        parameters[index].data -= sign * 1e-2 * direction
    assert (values[0] - values[1]) / 2e-2 == pytest.approx(float(composed.gradients[index].norm()), rel=0.05)


def test_the_scale_of_a_kind_is_the_mean_over_the_steps_sentences(duel):
    with torch.no_grad():
        for parameter in duel.parameters:
            parameter += 0.01
    mixed = replace(duel, gamma=torch.tensor([0.0, 1.0]))
    values = [mixed.step(step).values for step in range(8)]
    scales = {round((v["loss"] - v["erase"]) / v["retain"], 2) for v in values}
    assert scales == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("rule", ["adam", "sign"])
def test_an_attack_undoes_what_training_did(rule, tiny, duel):
    """On latents and timesteps that it has not seen, it brings back what the original does."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in duel.parameters:
            parameter += 0.05 * torch.randn(parameter.shape, generator=random)
    method = replace(duel.method, attack=replace(duel.method.attack, rule=rule, steps=40, draws=4, lr=0.02))
    own, chosen = replace(duel, method=method), torch.tensor([0])
    start = method.attack.begin(tiny, own.slots[chosen], None, random)
    own.attack(chosen, own.slots[chosen], random)

    def probe(perturbation) -> float:
        states = own.states[torch.arange(4)]
        embedded = method.attack.embed(tiny, own.slots[chosen], perturbation)
        with torch.no_grad():
            predicted = tiny.predict(
                states.latents, states.timesteps, tiny.encode_embeddings(embedded).repeat(4)
            )
        return float((predicted - states.conditional).square().mean())

    assert probe(own.latest.perturbation) < 0.95 * probe(start)


def test_sentences_are_attacked_as_if_alone(duel, monkeypatch):
    method = replace(duel.method, attack=replace(duel.method.attack, start="latest", steps=3))
    start = 0.1 * torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in duel.parameters:
            parameter += 0.05
    monkeypatch.setattr(Duel, "visited", lambda self, rows, _random: self.states[4 * rows])

    def attacked(chosen):
        own = replace(duel, method=method, latest=Latest(start[chosen]))
        own.attack(chosen, own.slots[chosen], torch.Generator())
        return own.latest.perturbation

    both = attacked(torch.tensor([0, 1]))
    assert torch.allclose(both[:1], attacked(torch.tensor([0])), atol=1e-4)
    assert torch.allclose(both[1:], attacked(torch.tensor([1])), atol=1e-4)
    assert (both - start).abs().max() > 0.01


def words(tiny, ids) -> list[str]:
    end = tiny.tokenizer.eos_token_id
    return tiny.tokenizer.convert_ids_to_tokens([i for i in ids.tolist()[1:] if i != end])


def test_slots_of_the_tokenizer_and_of_the_release(tiny):
    exact, released = small().attack, small(name="advunlearn_released").attack
    assert released.stale
    assert released.accumulate
    tokens = words(tiny, tiny.tokenize(["xylophone"])[0])
    assert len(tokens) > 2
    slots = exact.slots(tiny, ["xylophone", "church"])
    end = tiny.tokenizer.eos_token_id
    assert words(tiny, slots.ids[0]) == tokens
    assert slots.ids[0, 1] == end
    assert slots.ids[0, 2 : 2 + len(tokens)].tolist() == slots.plain[0, 1 : 1 + len(tokens)].tolist()
    assert slots.ids.shape == slots.plain.shape
    slots = released.slots(tiny, ["xylophone", "church"])
    # One word, so its second token is pushed out.
    kept = [slots.plain[0, 1], *slots.plain[0, 3 : 1 + len(tokens)]]
    assert slots.ids[0, 2 : 1 + len(tokens)].tolist() == [int(i) for i in kept]
    assert slots.ids[0, 1] == slots.plain[0, 2]


def test_a_perturbation_takes_its_place_and_no_other(tiny):
    perturbation = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    prefix = replace(small().attack, tokens=3)
    slots = prefix.slots(tiny, ["church", "xylophone"])
    embedded = prefix.embed(tiny, slots, perturbation)
    plain = tiny.embed(slots.plain)
    assert torch.equal(embedded[:, 1:4], perturbation)
    assert torch.equal(embedded[:, 4:], plain[:, 1:-3])
    added = replace(small().attack, place="add")
    slots = added.slots(tiny, ["church", "xylophone"])
    count = slots.counts.tolist()
    assert slots.taken.shape[1] == count[1] > count[0] == 1
    perturbation = torch.randn(2, count[1], 32, generator=torch.Generator().manual_seed(0))
    difference = added.embed(tiny, slots, perturbation) - plain
    for row, own in enumerate(count):
        assert torch.allclose(difference[row, 1 : 1 + own], perturbation[row, :own], atol=1e-6)
        assert not difference[row, 1 + own :].any()


def test_starts(tiny):
    slots = (attack := replace(small().attack, tokens=2)).slots(tiny, ["church", "xylophone"])
    table = dict(tiny.named_parameters())["text_encoder.embeddings.token_embedding.weight"]

    def begun(start, latest=None, seed=0):
        random = torch.Generator().manual_seed(seed)
        return replace(attack, start=start).begin(tiny, slots, latest, random)

    found = begun("random")
    ids = (found[..., None, :] == table).all(-1).int().argmax(-1)
    assert torch.equal(table[ids], found)
    assert not set(ids.flatten().tolist()) & set(tiny.tokenizer.all_special_ids)
    assert not torch.equal(found, begun("random", seed=1))
    assert torch.equal(begun("latest"), found)
    assert torch.equal(begun("latest", found + 1), found + 1)
    assert torch.equal(begun("random", found + 1), found)
    own = begun("prompt")
    assert torch.equal(own[0], table[slots.plain[0, [1, 1]]])  # one token, twice
    assert torch.equal(own[1], table[slots.plain[1, [1, 2]]])
    added = replace(attack, place="add", start="prompt")
    assert not added.begin(tiny, added.slots(tiny, ["church"]), None, torch.Generator()).any()


def test_a_stale_attack_of_one_step_is_none():
    attack = replace(small(name="advunlearn_released").attack, steps=1)
    start = torch.ones(1, 1, 3)
    found, last = attack.descend(start, lambda _step, x: x.square().sum())
    assert torch.equal(found, start)
    assert last == 3
    found, _ = replace(attack, stale=False).descend(start, lambda _step, x: x.square().sum())
    assert torch.allclose(found, start - attack.lr, atol=1e-5)


def test_the_fast_variant_is_one_step_along_the_sign():
    attack = configured("advunlearn_fast").attack
    assert not attack.stale
    weights = torch.tensor([[[3.0, -1e-6, 1e3]]])
    found, _ = attack.descend(torch.zeros(1, 1, 3), lambda _step, x: (weights * x).sum())
    assert torch.allclose(found, -attack.lr * weights.sign(), rtol=1e-4)


def test_a_sentence_without_room_is_refused_before_anything_is_drawn(tiny, context):
    before = tiny.forwards
    with pytest.raises(ConfigError, match=r"attack.tokens: .* has no room for 2 more.* 76 of them are taken"):
        small("attack.tokens=2").erase(tiny, concept_set(" ".join(["cat"] * 74)), context)
    assert tiny.forwards == before


def test_layers_are_numbers(tiny):
    named = [
        f"text_encoder.{name}.weight"
        for name in ["embeddings.token_embedding", *(f"encoder.layers.{i}.mlp.fc1" for i in range(12))]
    ]
    clip = SimpleNamespace(
        named_parameters=lambda: [(n, nn.Parameter()) for n in [*named, "text_encoder.final"]]
    )
    parameters = ["text_encoder.*", "!text_encoder.*embeddings*"]
    assert small("layers=2").parameters == ["text_encoder", "!text_encoder.*embeddings*"]
    assert replace(small("layers=2"), parameters=parameters).trained(clip) == named[1:3]
    assert replace(small("layers=12"), parameters=parameters).trained(clip) == named[1:]
    assert replace(small(), parameters=parameters).trained(clip) == [*named[1:], "text_encoder.final"]
    for count, where in ((3, "text_encoder"), (1, "cross_attention_kv")):
        with pytest.raises(ConfigError, match=rf"method.layers: .* layers, got {count}. Null trains all"):
            replace(small(f"layers={count}"), parameters=[where]).trained(tiny)


@pytest.mark.parametrize("layers", [None, 1])
def test_embeddings_of_tokens_and_positions_are_frozen(layers, tiny, context):
    erasure = replace(small(), layers=layers).erase(tiny, concept_set("church"), context)
    assert all(name.startswith("text_encoder.") for name in erasure.weights)
    assert not any("embeddings" in name for name in erasure.weights)
    assert {"layers.0" in name for name in erasure.weights} == ({True} if layers else {True, False})


def test_the_denoiser_can_be_trained_instead(tiny, context):
    erasure = small("parameters=[cross_attention_kv]").erase(tiny, concept_set("church"), context)
    assert all(".attn2.to_" in name for name in erasure.weights)
    assert erasure.history[-1]["retain"] > 0


@pytest.mark.parametrize("name", ["advunlearn", "advunlearn_fast", "advunlearn_released"])
@pytest.mark.parametrize("world", ["sd", "pocket"])
def test_the_shipped_values_attack(name, world):
    method = configured(name, world=world)
    assert 0 < method.warmup < method.steps
    assert method.attack.place == "prefix"
    if name != "advunlearn_released":
        assert not method.attack.stale
        assert method.attack.index == "exact"
    if world == "sd":
        assert method.retain_scale == {
            "nudity": 0.3,
            "violence": 0.3,
            "style": 0.5,
            "object": 0.5,
            "character": 0.5,
        }


def test_steps_after_the_warm_up_are_attacked(tiny, context):
    history = small("warmup=2").erase(tiny, concept_set("church"), context).history
    assert ["attack" in row for row in history] == [False, False, True, True]


def test_one_attack_serves_several_steps(tiny, context, monkeypatch):
    seen = []
    original = Duel.losses

    def losses(self, chosen, *rest):
        seen.append((chosen.tolist(), self.latest.perturbation))
        return original(self, chosen, *rest)

    monkeypatch.setattr(Duel, "losses", losses)
    method = small("steps=7", "warmup=2", "attack.every=3")
    history = method.erase(tiny, concept_set("church", "cat", "dog", anchor="house"), context).history
    assert ["attack" in row for row in history] == [False, False, True, True, False, False, True]
    assert seen[3] == (seen[4][0], seen[4][1])
    assert seen[3][1] is seen[5][1] is not seen[6][1]
    assert seen[3][0] == seen[4][0] == seen[5][0]


def test_no_forward_is_wasted(tiny, context):
    """Two a step of each trajectory; one for each latent of an attack, and one for each trained on."""
    before = tiny.forwards
    small("attack.draws=3").erase(tiny, concept_set("church"), context)
    bank = (2 + 5) * 4 * 2
    attacks = 3 * 2 * (2 * 3)
    assert tiny.forwards - before == bank + attacks + 4 * (2 + 3)


def test_training_reaches_the_target_under_attack(tiny, context):
    method = small(
        "steps=40",
        "warmup=10",
        "batch_size=4",
        "trajectories=4",
        "optimizer.lr=3e-3",
        "retain_scale.object=0",
    )
    history = method.erase(tiny, concept_set("church"), context).history
    assert sum(h["erase"] for h in history[-10:]) < 0.8 * sum(h["erase"] for h in history[:10])


def test_captions_leave_out_the_concept(tiny, context, monkeypatch):
    said = []
    original = AdvUnlearn.drawn

    def drawn(self, model, sentences, kept, context):
        said.extend(kept)
        return original(self, model, sentences, kept, context)

    monkeypatch.setattr(AdvUnlearn, "drawn", drawn)
    concepts = concept_set("cat", "dog house", retain=["dog", "a cat basket"])
    small("retain_trajectories=40").erase(tiny, concepts, context)
    assert "a photo of a dog" in said
    assert "a photo of a zebra" not in said
    assert "a photo of a guitar" in said
    assert not [sentence for sentence in said if re.search(r"\bcat\b", sentence)]
    assert len(set(said)) == len(said)

    objects = everyday(concepts)
    assert "a photo of a zebra" in objects
    assert not {"a photo of a dog", "a photo of a house"} & set(objects)
    assert len(set(objects)) == len(objects) > 200
    said.clear()
    shutil.rmtree(context.scratch)
    context.scratch.mkdir()
    monkeypatch.setattr(
        "unlearn.methods.training.advunlearn.advunlearn.everyday",
        lambda _: [*objects[:3], "a photo of a dog"],
    )
    small("retain_trajectories=40", "retain_objects=true").erase(tiny, concepts, context)
    assert set(objects[:3]) < set(said)
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("overrides", [(), ("attack.start=latest", "attack.every=2")])
def test_interrupted_and_resumed_is_undisturbed(overrides, tiny, tmp_path, monkeypatch):
    method, concepts = small("steps=6", *overrides), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 1, 4)


@pytest.fixture(scope="module")
def erasure(tiny, tmp_path_factory) -> Erasure:
    scratch = tmp_path_factory.mktemp("scratch")
    context = Context(seed=0, scratch=scratch, log=lambda *_: None, progress=False, meter=Meter(tiny))
    return small("optimizer.lr=0.01").erase(tiny, concept_set("church"), context)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another checkpoint with the same text encoder: a folder, and the model."""
    folder = write_tiny(tmp_path_factory.mktemp("other") / "v", prediction="v_prediction")
    model = tiny_settings(folder).load("cpu")
    with torch.no_grad():
        for parameter in model.parts["unet"].parameters():
            parameter.mul_(0.9)
    return folder, model


PROMPTS = ["a church", "a photo of a cat", ""]


def test_the_erasure_fits_every_checkpoint_with_the_same_text_encoder(tiny, erasure, other):
    _, model = other
    with tiny.erased(erasure), torch.no_grad():
        expected = tiny.encode(PROMPTS).tokens
    with torch.no_grad():
        plain = model.encode(PROMPTS).tokens
        with model.erased(erasure):
            assert torch.equal(model.encode(PROMPTS).tokens, expected)
    assert (plain - expected).abs().amax(dim=(1, 2)).min() > 1e-3


def test_an_exported_text_encoder_fits_into_another_pipeline(tiny, erasure, other, tmp_path):
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    export(tiny, erasure, tmp_path / "erased")
    encoder = CLIPTextModel.from_pretrained(tmp_path / "erased" / "text_encoder")
    pipe = StableDiffusionPipeline.from_pretrained(other[0], text_encoder=encoder)
    with tiny.erased(erasure), torch.no_grad():
        expected = tiny.encode(PROMPTS).tokens
    with torch.no_grad():
        found = pipe.text_encoder(tiny.tokenize(PROMPTS))[0]
    assert torch.equal(found, expected)
    table = dict(tiny.named_parameters())["text_encoder.embeddings.token_embedding.weight"]
    assert torch.equal(encoder.get_input_embeddings().weight, table)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=1", "warmup: must be from 0 to below the 1 steps"),
        ("batch_size=0", "batch_size: must be at least 1"),
        ("layers=0", "layers: must be at least 1, or null for all"),
        ("states=5", "states: a trajectory has 4 steps, got 5"),
        ("negative_guidance=-1", "negative_guidance: must be a number from 0 up"),
        ("retain_scale.style=-1", "retain_scale.style: must be a number from 0 up"),
        ("attack.place=suffix", "place: Unknown place 'suffix'"),
        ("attack.rule=pgd", "rule: Unknown rule 'pgd'"),
        ("attack.start=zero", "start: Unknown start 'zero'"),
        ("attack.index=words", "index: Unknown index 'words'"),
        ("attack.every=0", "every: must be at least 1"),
        ("attack.lr=0", "lr: must be a number above 0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)


def test_a_kind_without_a_scale_is_named(tiny, context):
    concepts = ConceptSet(erase={"x": replace(concept_set("church").erase["church"], kind="violence")})
    method = small()
    del method.retain_scale["violence"]
    with pytest.raises(ConfigError, match=r"method.retain_scale: for concept 'x': Unknown kind 'violence'"):
        method.erase(tiny, concepts, context)
