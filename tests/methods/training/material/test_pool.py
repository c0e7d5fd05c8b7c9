"""Images that the original draws for methods to train on."""

from __future__ import annotations

import pytest
import torch

from unlearn.methods.training.material.pool import Noised, clean_latents, shuffled
from unlearn.models.sampling import Sampler


def sampler(batch_size: int) -> Sampler:
    return Sampler(scheduler="ddim", steps=3, guidance=3.0, resolution=32, batch_size=batch_size)


def test_each_image_is_of_its_prompt_and_seed_whatever_its_batch(tiny):
    with torch.no_grad():
        prompts = tiny.encode(["church", "cat"])
    rows, seeds = [0, 1, 1, 0, 0], [3, 3, 4, 4, 3]
    together = clean_latents(tiny, prompts, rows, seeds, sampler(5))
    apart = clean_latents(tiny, prompts, rows, seeds, sampler(2))
    assert together.shape == (5, *tiny.latent_shape(32))
    assert torch.allclose(together, apart, atol=1e-4)
    assert torch.equal(together[0], together[4])
    assert not torch.allclose(together[0], together[1], atol=1e-2)  # another prompt
    assert not torch.allclose(together[0], together[3], atol=1e-2)  # another seed


def test_a_negative_prompt_is_guided_away_from(tiny):
    with torch.no_grad():
        prompts, away = tiny.encode(["church", "cat"]), tiny.encode(["a nude person", ""])
    plain = clean_latents(tiny, prompts, [0, 1], [3, 4], sampler(2))
    guarded = clean_latents(tiny, prompts, [0, 1], [3, 4], sampler(2), away)
    assert not torch.allclose(plain[0], guarded[0], atol=1e-3)
    assert torch.equal(plain[1], guarded[1])


@pytest.mark.parametrize(("count", "size"), [(10, 3), (4, 4), (3, 8), (1, 2), (2, 0)])
def test_every_pass_meets_everything_once_in_its_own_order(count, size, context):
    steps = 2 * count  # whole passes, whatever the size
    taken = torch.cat([shuffled(count, size, step, context, "test") for step in range(steps)])
    assert len(taken) == steps * size
    passes = taken.reshape(-1, count)
    assert torch.equal(passes.sort(dim=1).values, torch.arange(count).expand(len(passes), -1))
    if count > 3:
        assert not torch.equal(passes[0], passes[1])
    assert torch.equal(shuffled(count, size, 1, context, "test"), taken[size : 2 * size])


def test_noise_is_that_of_its_timestep(tiny):
    clean = torch.randn(64, *tiny.latent_shape(32))
    noised = Noised.draw(tiny, clean, torch.Generator().manual_seed(0))
    assert len(set(noised.timesteps.tolist())) > 40
    alpha = tiny.alphas_cumprod[noised.timesteps].sqrt()[:, None, None, None]
    back = (noised.latents - alpha * clean) / (1 - alpha**2).sqrt()
    assert torch.allclose(back, noised.target, atol=1e-3)
    again = Noised.draw(tiny, clean, torch.Generator().manual_seed(0))
    assert torch.equal(noised.latents, again.latents)
