"""Images that the original draws for methods to train on."""

from __future__ import annotations

import torch

from unlearn.methods.pool import clean_latents
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
