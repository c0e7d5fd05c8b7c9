"""ESD: its loss, its trajectories, and what it costs."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, golden_case, interrupted, relative

from unlearn.methods.training import esd
from unlearn.models.sampling import sample
from unlearn.models.weights.parameters import matching, select

VARIANTS = {"esd-x": "esd", "esd-u": "esd_u", "esd-x-strict": "esd_x_strict"}


@pytest.mark.golden
@pytest.mark.parametrize("name", ["esd_x", "esd_u", "esd_x_strict_from"])
def test_golden(name, golden, golden_tiny, context, monkeypatch):
    case = golden_case(golden, f"esd/{name}")
    inputs, broader = case.inputs, case.inputs["erase_from"]
    method = configured(
        VARIANTS[inputs["train_method"]],
        f"steps={inputs['iterations']}",
        "batch_size=1",
        "states=1",
        f"optimizer.lr={inputs['lr']}",
        "sampler.scheduler=pndm",
        f"sampler.steps={inputs['num_inference_steps']}",
        f"sampler.guidance={inputs['guidance_scale']}",
        f"sampler.resolution={inputs['height']}",
    )
    # The script adds its negative guidance to the conditional prediction, the paper to the unconditional one.
    method.negative_guidance = inputs["negative_guidance"] - (broader is None)
    method.erase_from = broader
    drawn = golden_tiny.encode(["", broader or inputs["erase_concept"]])
    with select(golden_tiny, method.parameters) as selection:
        assert set(selection.parameters) == {f"unet.{name}" for name in inputs["trained_parameters"]}
        states = method.draw(
            golden_tiny,
            selection,
            drawn,
            which=[0] * inputs["iterations"],
            stops=[[step["timestep_index"]] for step in inputs["per_iteration"]],
            seeds=[step["latent_seed"] for step in inputs["per_iteration"]],
        )
    assert states.timesteps.tolist() == [step["timestep"] for step in inputs["per_iteration"]]
    for value, key in (
        (states.latents, "xt"),
        (states.conditional, "eps_erase_from"),
        (states.unconditional, "eps_null"),
    ):
        assert relative(value, case.tensors[key]) < case.bound(key), key

    monkeypatch.setattr(esd.ESD, "stored", lambda *_: states)
    erasure = method.erase(golden_tiny, concept_set(inputs["erase_concept"], anchor="", retain=[]), context)
    losses = [values["loss"] for values in erasure.history]
    assert losses == pytest.approx(case.outputs["loss"], rel=case.bound("loss"))
    originals = matching(golden_tiny, method.parameters)
    for key, expected in case.weights("final.").items():
        update, reference = erasure.weights[key] - originals[key], expected - originals[key]
        assert relative(update, reference) < case.tolerance["final.*"]["tol"], key


def small(*overrides: str) -> esd.ESD:
    base = ("steps=4", "batch_size=2", "states=2", "sampler.steps=4", "optimizer.lr=1e-3")
    return configured("esd", *base, *overrides)


def test_states_are_those_of_single_trajectories_with_predictions_of_the_original(tiny):
    method = small()
    prompts = tiny.encode(["", "church", "cat"])
    with select(tiny, method.parameters) as selection:
        states = method.draw(tiny, selection, prompts, which=[1, 0], stops=[[0, 3], [2]], seeds=[5, 6])
    assert states.prompts.tolist() == [1, 1, 0]
    for row, (prompt, seed, stop) in enumerate([(2, 5, 0), (2, 5, 3), (1, 6, 2)]):
        latents, t = sample(tiny, prompts[[prompt]], prompts[:1], [seed], method.sampler, until=stop)
        assert states.timesteps[row] == t
        assert torch.allclose(states.latents[row], latents[0], atol=1e-4)
        with torch.no_grad():
            assert torch.allclose(
                states.conditional[row], tiny.predict(latents, t, prompts[[prompt]])[0], atol=1e-4
            )
            assert torch.allclose(
                states.unconditional[row], tiny.predict(latents, t, prompts[:1])[0], atol=1e-4
            )


def test_no_forward_is_wasted(tiny, context):
    """Two a step of each trajectory, and one for each trained latent: nothing else."""
    before = tiny.forwards
    small("states=4").erase(tiny, concept_set("church"), context)
    trajectories = 4 * 2 // 4
    assert tiny.forwards - before == trajectories * 4 * 2 + 4 * 2


def test_every_prompt_gets_its_trajectories(tiny, context):
    method = small("steps=8")
    with select(tiny, method.parameters) as selection:
        states = method.stored(tiny, selection, tiny.encode(["", "church", "cat"]), 0, context)
    assert sorted(states.prompts.tolist()) == [0] * 8 + [1] * 8
    assert len(set(states.timesteps.tolist())) > 1


def test_training_reaches_the_target(tiny, context):
    method = small("steps=40", "states=4", "batch_size=4", "optimizer.lr=3e-3")
    history = method.erase(tiny, concept_set("church"), context).history
    assert sum(h["loss"] for h in history[-10:]) < 0.7 * sum(h["loss"] for h in history[:10])


def test_refreshed_latents_come_from_the_trained_weights_and_targets_from_the_original(tiny):
    method = small("refresh=1")
    prompts = tiny.encode(["", "church"])
    draws = {"which": [0], "stops": [[2]], "seeds": [5]}
    with select(tiny, method.parameters) as selection:
        first = method.draw(tiny, selection, prompts, **draws)
        for parameter in selection.parameters.values():
            parameter.data += 0.1
        second = method.draw(tiny, selection, prompts, **draws)
        with selection.original():
            expected = tiny.predict(second.latents, second.timesteps, prompts[1:])
    assert not torch.allclose(first.latents, second.latents, atol=1e-3)
    assert torch.allclose(second.conditional, expected, atol=1e-5)


@pytest.mark.parametrize(("refresh", "checkpointed"), [("null", 6), ("3", 6), ("3", 1), ("1", 2)])
def test_interrupted_and_resumed_is_undisturbed(refresh, checkpointed, tiny, tmp_path, monkeypatch):
    """Also where the last checkpoint lies before the latents that were drawn last."""
    method, concepts = small("steps=6", f"refresh={refresh}"), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 2, 4, until=checkpointed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps=0", "steps: must be at least 1"),
        ("states=5", "states: a trajectory has 4 steps, got 5"),
        ("refresh=0", "refresh: must be at least 1"),
        ("negative_guidance=-1", "negative_guidance: must be a number from 0 up"),
        ("optimizer.lr=0", "lr: must be a number above 0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)


def test_each_world_has_its_values_and_the_user_the_last_word():
    assert configured("esd", world="sd").steps == 1000
    assert configured("esd", world="pocket").steps != 1000
    assert configured("esd", "steps=7", world="pocket").steps == 7
