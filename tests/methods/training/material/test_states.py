"""Noisy states out of trajectories."""

from __future__ import annotations

import pytest
import torch

from unlearn.errors import ArtifactError
from unlearn.methods.method import Meter
from unlearn.methods.training.material.states import draw, once, scattered
from unlearn.models.model import Conditioning
from unlearn.models.sampling import Sampler, sample


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(scheduler="ddim", steps=6, guidance=3.0, resolution=32, batch_size=2)


def test_the_empty_prompt_takes_one_branch(tiny, sampler):
    empty = tiny.encode([""])
    before = tiny.forwards
    states = draw(tiny, empty, which=[-1] * 3, stops=[[0, 4], [4], [2]], seeds=[1, 2, 3], sampler=sampler)
    assert tiny.forwards - before == 2 * 5 + 3
    expected = tiny.scheduler("ddim", 6).timesteps[[0, 4, 4, 2]]
    assert torch.equal(states.timesteps, expected)
    assert torch.equal(states.conditional, states.unconditional)
    latents, _ = sample(tiny, empty, empty, [2], sampler, until=4)
    assert torch.allclose(states.latents[2], latents[0], atol=1e-5)


def test_states_one_step_apart_are_one_step_of_the_scheduler_apart(tiny, sampler):
    """Each latent stands beside the timestep that it is predicted at, not the one before."""
    prompts = tiny.encode(["", "church"])
    states = draw(tiny, prompts, which=[0], stops=[[0, 1, 2, 3]], seeds=[1], sampler=sampler)
    scheduler = tiny.scheduler("ddim", 6)
    for k in range(3):
        guided = states.unconditional[k] + 3.0 * (states.conditional[k] - states.unconditional[k])
        stepped = scheduler.step(guided, states.timesteps[k], states.latents[k], return_dict=False)[0]
        assert torch.allclose(stepped, states.latents[k + 1], atol=1e-5)
        with torch.no_grad():
            both = Conditioning(prompts.tokens)
            empty, prompted = tiny.predict(states.latents[[k, k]], states.timesteps[k], both)
        assert torch.allclose(empty, states.unconditional[k], atol=1e-5)
        assert torch.allclose(prompted, states.conditional[k], atol=1e-5)


def test_what_was_made_once_is_found_again_with_its_cost(tiny, tmp_path):
    file, made = tmp_path / "tensors.safetensors", []

    def make():
        made.append(1)
        tiny.forwards += 5
        return {"a": torch.arange(6).reshape(2, 3).T}

    first = once(file, make, Meter(tiny))
    again = Meter(tiny)
    assert torch.equal(once(file, make, again)["a"], first["a"])
    assert made == [1]
    assert again.read()["forwards"] == 5
    file.write_bytes(b"torn")
    with pytest.raises(ArtifactError, match=r"cannot read .*tensors"):
        once(file, make, Meter(tiny))


def test_scattered_latents_are_of_all_prompts_and_of_different_steps(tiny, sampler, context):
    prompts = tiny.encode(["", "church", "cat"])
    before = tiny.forwards
    states = scattered(tiny, prompts, 7, 2, sampler, context, "test")
    assert tiny.forwards - before <= 4 * sampler.steps * 2
    assert len(states) == 7
    assert sorted(states.prompts.tolist())[:3] == [0, 0, 0]
    assert set(states.prompts.tolist()) == {0, 1}
    assert states.prompts.tolist() != sorted(states.prompts.tolist())
    assert len(set(states.timesteps.tolist())) > 2
    with torch.no_grad():
        expected = tiny.predict(states.latents, states.timesteps, prompts[(states.prompts + 1).tolist()])
    assert torch.allclose(states.conditional, expected, atol=1e-5)
    again = scattered(tiny, prompts, 7, 2, sampler, context, "test")
    assert torch.equal(states.latents, again.latents)
    other = scattered(tiny, prompts, 7, 2, sampler, context, "other")
    assert not torch.allclose(states.latents, other.latents)
