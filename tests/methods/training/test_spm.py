"""SPM: its loss, what each prompt lets pass, and what it costs."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, interrupted

from unlearn.errors import ArtifactError, ConfigError
from unlearn.methods.training import spm
from unlearn.methods.training.material.states import scattered
from unlearn.methods.training.membranes import Layers
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning
from unlearn.models.sampling import Sampler, draw
from unlearn.models.weights.adapters import adapted
from unlearn.models.weights.parameters import matching

SAMPLER = Sampler(scheduler="ddim", steps=4, guidance=3.0, resolution=32, batch_size=4)


def small(*overrides: str, name: str = "spm", world: str = "sd") -> spm.SPM:
    base = (
        "steps=4",
        "batch_size=2",
        "states=2",
        "anchor_count=2",
        "sampler.steps=4",
        "optimizer.lr=1e-2",
        "optimizer.warmup=0",
    )
    return configured(name, *base, *overrides, world=world)


def guard_of(model, *phrases: str) -> spm.SPMGuard:
    """One random membrane for each phrase."""
    layers = Layers.of(model, small().parameters, 1)
    random = torch.Generator().manual_seed(0)
    size = len(layers.start(random))
    membranes = 0.3 * torch.randn(len(phrases), size, generator=random)
    shapes = {name: list(shape) for name, shape in layers.shapes.items()}
    return spm.SPMGuard(membranes=membranes, shapes=shapes, rank=1, phrases=[[each] for each in phrases])


def test_every_linear_layer_of_the_transformers_gets_a_membrane(tiny):
    layers = Layers.of(tiny, small().parameters, 1)
    modules = {
        f"unet.{name}.weight"
        for name, module in tiny.parts["unet"].named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and ".attentions." in name
    }
    assert layers.shapes.keys() == modules


def test_a_membrane_starts_as_nothing_and_is_uniform_below(tiny):
    layers = Layers.of(tiny, small().parameters, 2)
    factors = layers.factors(layers.start(torch.Generator().manual_seed(0)))
    for name, (down, up) in factors.items():
        out, width = layers.shapes[name]
        assert down.shape == (1, 2, width)
        assert up.shape == (1, out, 2)
        assert not up.any()
        assert down.abs().max() <= width**-0.5
        assert down.std() == pytest.approx((3 * width) ** -0.5, rel=0.5)


@pytest.mark.parametrize("pattern", ["unet.*conv1.weight", "unet.*attn2.to_out.0.bias"])
def test_other_weights_are_refused(pattern, tiny, context):
    method = small()
    method.parameters = [pattern]
    with pytest.raises(ConfigError, match=r"method.parameters: must match weights of linear layers"):
        method.erase(tiny, concept_set("church"), context)


@pytest.mark.parametrize("anchors", ["noise", "captions"])
def test_the_loss_is_the_formula(anchors, tiny, context):
    method = small(f"anchors={anchors}", "anchor_scale=3", "negative_guidance=0.7")
    layers = Layers.of(tiny, method.parameters, 1)
    random = torch.Generator().manual_seed(3)
    membrane = 0.1 * torch.randn(layers.start(random).shape, generator=random)
    prompts, kept = tiny.encode(["", "church", "cat"]), tiny.encode(["a house", "a dog"])
    states = scattered(tiny, prompts, 2, 2, method.sampler, context, "test")
    chosen = kept if anchors == "captions" else None
    with torch.no_grad():
        loss = method.loss(tiny, layers, membrane, states, prompts[1:], chosen, 5, context)
        own = prompts[(states.prompts + 1).tolist()]
        others = method.others(own, chosen, context.generator("spm", "step", 5))
        assert len(others) == 4
        erasing = keeping = 0.0
        for i in range(2):
            x, t = states.latents[i : i + 1], states.timesteps[i : i + 1]
            conditional, empty = tiny.predict(x, t, own[[i]]), tiny.predict(x, t, prompts[:1])
            with adapted(tiny, layers.factors(membrane)):
                predicted = tiny.predict(x, t, own[[i]])
            erasing += (predicted - (empty - 0.7 * (conditional - empty))).square().mean() / 2
            for j in (i, i + 2):
                held = tiny.predict(x, t, others[[j]])
                with adapted(tiny, layers.factors(membrane)):
                    keeping += (tiny.predict(x, t, others[[j]]) - held).square().mean() / 4
    assert loss.item() == pytest.approx(float(erasing + 3 * keeping), rel=1e-4)


def test_noise_is_about_as_long_as_the_concept_and_new_in_each_step(tiny, context):
    method, concept = small("anchor_count=40"), tiny.encode(["church"])
    first, second = (method.others(concept, None, context.generator("test", i)) for i in range(2))
    assert not torch.equal(first.tokens, second.tokens)
    ratio = first.tokens.flatten(1).norm(dim=1) / concept.tokens.flatten(1).norm(dim=1)
    assert 0.8 <= ratio.min() < 0.9
    assert 1.1 < ratio.max() <= 1.2


def test_captions_that_are_less_alike_are_likelier(tiny):
    """Of the concept itself, there is none."""
    method, concept = small("anchor_count=400", "anchors=captions"), tiny.encode(["church"])
    kept = tiny.encode(["church", "a church", "violence"])
    found = method.others(concept, kept, torch.Generator().manual_seed(0)).tokens
    counts = [int((found == kept.tokens[i]).flatten(1).all(dim=1).sum()) for i in range(3)]
    cosines = spm.cosine(concept.tokens.flatten(1), kept.tokens.flatten(1))[0]
    expected = (1 - cosines) / (1 - cosines).sum()
    assert sum(counts) == 400
    assert counts[0] <= 1
    assert counts[1] / 400 == pytest.approx(float(expected[1]), abs=0.1)


@torch.no_grad()
def test_strengths_are_the_larger_of_likeness_and_shared_tokens(tiny):
    prompts = ["church", "a photo of a church", "a garbage truck", "parachute"]
    encoded = tiny.encode(prompts)
    found = spm.shares(tiny, prompts, encoded, ["church", "garbage truck"])
    flat = tiny.encode(["church", "garbage truck"]).tokens.flatten(1).double()
    cosines = torch.stack(
        [torch.cosine_similarity(each[None].double(), flat) for each in encoded.tokens.flatten(1)]
    )
    assert torch.allclose(found[:3], torch.ones(3), atol=1e-6)
    shared = max(
        len(set(tiny.tokenizer("parachute").input_ids[1:-1]) & set(wanted)) / len(set(wanted))
        for wanted in (tiny.tokenizer(text).input_ids[1:-1] for text in ("church", "garbage truck"))
    )
    assert found[3] == pytest.approx(max(shared, float(cosines[3].max())), abs=1e-6)
    assert found[3] < 1


@torch.no_grad()
def test_each_prompt_of_a_batch_has_its_share_of_every_membrane(tiny):
    """The products are scaled and added up; as released, membranes would act on each other."""
    guard = guard_of(tiny, "church", "nudity")
    prompts = ["church", "a nude person", "a dog"]
    encoded = tiny.encode(prompts)
    prepared = guard.prepared(tiny, prompts, encoded)
    gammas = torch.stack([spm.shares(tiny, prompts, encoded, [each]) for each in ("church", "nudity")], 1)
    assert gammas[0, 0] == pytest.approx(1)
    assert (gammas < 0.999).sum() >= 4
    latents = torch.randn(3, *tiny.latent_shape(32), generator=torch.Generator().manual_seed(0))
    empty, t = tiny.encode([""]).repeat(3), torch.tensor(500)
    with prepared.attached(tiny.parts):
        branches = prepared.branches(0, prompts, [empty, encoded])
        found = tiny.predict(latents.repeat(2, 1, 1, 1), t, Conditioning.cat(branches))
    layers, own = Layers.of(tiny, small().parameters, 1), matching(tiny, small().parameters)
    pairs = [layers.factors(membrane) for membrane in guard.membranes]
    for i in range(3):
        weights = {
            name: weight
            + sum(
                gammas[i, k] * (up @ down)[0] for k, (down, up) in enumerate(pair[name] for pair in pairs)
            ).reshape(weight.shape)
            for name, weight in own.items()
        }
        with tiny.erased(Erasure(weights=weights)):
            for row, conditioning in ((i, empty[[0]]), (i + 3, encoded[[i]])):
                expected = tiny.predict(latents[i : i + 1], t, conditioning)
                assert torch.allclose(found[row], expected[0], atol=1e-4)


def test_what_says_the_concept_is_erased_as_with_merged_weights(tiny, context):
    """A prompt that is the phrase takes the membrane whole; every other prompt takes less."""
    guarded = small("optimizer.lr=0.3").erase(tiny, concept_set("church"), context)
    static = small("optimizer.lr=0.3", name="spm_static").erase(tiny, concept_set("church"), context)
    assert guarded.history == static.history
    assert set(static.weights) == set(matching(tiny, small().parameters))

    def images(erasure) -> torch.Tensor:
        with tiny.erased(erasure):
            return torch.cat(list(draw(tiny, ["church", "a dog"], [0, 1], SAMPLER, erasure.guard)))

    first, second, plain = images(guarded), images(static), images(Erasure())
    assert torch.allclose(first[0], second[0], atol=1e-4)
    assert not torch.allclose(first[0], plain[0], atol=1e-3)
    assert (first[1] - plain[1]).norm() < (second[1] - plain[1]).norm()


def test_a_guard_for_another_model_is_refused(tiny):
    guard = guard_of(tiny, "church")
    guard.shapes = {**guard.shapes, "unet.other.weight": [1, 1]}
    with pytest.raises(ArtifactError, match=r"no weight 'unet.other.weight' with shape \(1, 1\)"):
        list(draw(tiny, ["church"], [0], SAMPLER, guard))


def test_prompts_that_it_was_not_prepared_for_are_refused(tiny):
    guard = guard_of(tiny, "church")
    encoded = tiny.encode(["church"])
    prepared = guard.prepared(tiny, ["church"], encoded)
    with pytest.raises(ValueError, match="has not been prepared"):
        prepared.branches(0, ["cat"], [encoded, encoded])


def test_no_forward_is_wasted(tiny, context):
    """Two a step of each trajectory, one for each latent, and two for each other embedding."""
    method = small("states=4")
    before = tiny.forwards
    method.erase(tiny, concept_set("church", "cat"), context)
    trajectories = 2 * (4 * 2 // 4)
    trained = 2 * 4 * 2 * (1 + 2 * 2)
    assert tiny.forwards - before == trajectories * 4 * 2 + trained


def test_training_reaches_the_target_and_leaves_the_original(tiny, context):
    method = small("steps=40", "states=4", "optimizer.lr=5e-2", "anchor_scale=0")
    own = {name: parameter.detach().clone() for name, parameter in tiny.named_parameters()}
    history = method.erase(tiny, concept_set("church"), context).history
    assert sum(h["loss"] for h in history[-10:]) < 0.8 * sum(h["loss"] for h in history[:10])
    assert all(torch.equal(parameter, own[name]) for name, parameter in tiny.named_parameters())


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    """Also in the second concept."""
    method, concepts = small(), concept_set("church", "cat")
    resumed, undisturbed = interrupted(tiny, method, concepts, tmp_path, monkeypatch, 2, 6, until=6)
    assert [values["step"] for values in resumed.history] == list(range(8))
    assert torch.equal(resumed.guard.membranes, undisturbed.guard.membranes)


def test_only_static_membranes_go_on_from_an_earlier_erasure():
    assert not small().continues
    assert small(name="spm_static").continues


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("anchors=noises", "anchors: Unknown anchors 'noises'. Did you mean 'noise'"),
        ("anchor_scale=-1", "anchor_scale: must be a number from 0 up"),
        ("negative_guidance=-1", "negative_guidance: must be a number from 0 up"),
        ("rank=0", "rank: must be at least 1"),
        ("states=5", "states: a trajectory has 4 steps, got 5"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
