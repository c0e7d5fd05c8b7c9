"""Clean latents that the original model draws once, for methods that train on its own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.methods.method import Context
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler, sample


@torch.no_grad()
def clean_latents(
    model: DiffusionModel,
    prompts: Conditioning,
    rows: Sequence[int],
    seeds: Sequence[int],
    sampler: Sampler,
    negative: Conditioning | None = None,
) -> Tensor:
    """Draws one image for each entry of ``rows``.

    Arguments:
        prompts: Encoded prompts.
        rows: Number of each image's prompt.
        seeds: Seed of each image's noise.
        sampler: How they are drawn.
        negative: Encoded negative prompts, one for each prompt; by default the empty one for all.

    Returns:
        Clean latents with shape :math:`(N, C, h, w)`, on the CPU.
    """
    empty = model.encode([""])
    size = sampler.batch_size
    found = []
    for start in range(0, len(rows), size):
        own = list(rows[start : start + size])
        away = empty if negative is None else negative[own]
        found.append(sample(model, prompts[own], away, list(seeds[start : start + size]), sampler)[0].cpu())
    return torch.cat(found)


def shuffled(count: int, size: int, step: int, context: Context, *scope: str | int) -> Tensor:
    """Which of ``count`` things one step takes, with shape :math:`(B,)`, if all steps pass over them.

    Every pass has an order of its own and meets each thing once; a batch may reach into the next pass.

    Arguments:
        size: How many a step takes, :math:`B`.
        step: Number of the step, from 0; its batch depends on no other.
        context: Where random numbers come from.
        scope: Names this use of randomness.
    """
    taken, first = [torch.empty(0, dtype=torch.long)], step * size
    for turn in range(first // count, (first + size - 1) // count + 1):
        order = torch.randperm(count, generator=context.generator(*scope, "pass", turn))
        taken.append(order[max(first - turn * count, 0) : first + size - turn * count])
    return torch.cat(taken)


@dataclass(frozen=True)
class Noised:
    """Clean latents after noise has been added, as a denoiser is trained on them.

    Attributes:
        latents: :math:`x_t`, with shape :math:`(B, C, h, w)`.
        timesteps: :math:`t`, with shape :math:`(B,)`.
        target: What a prediction estimates, with shape :math:`(B, C, h, w)`.
    """

    latents: Tensor
    timesteps: Tensor
    target: Tensor

    @classmethod
    def draw(cls, model: DiffusionModel, clean: Tensor, random: torch.Generator) -> Noised:
        """Adds noise at random timesteps to latents with shape :math:`(B, C, h, w)`, on any device."""
        return cls.at(
            model, clean, torch.randint(len(model.alphas_cumprod), (len(clean),), generator=random), random
        )

    @classmethod
    def at(cls, model: DiffusionModel, clean: Tensor, timesteps: Tensor, random: torch.Generator) -> Noised:
        """Adds noise at the given timesteps, with shape :math:`(B,)`."""
        t = timesteps.to(model.device)
        noise = torch.randn(clean.shape, generator=random).to(model.device, model.dtype)
        clean = clean.to(noise)
        return cls(model.add_noise(clean, noise, t), t, model.target(clean, noise, t))
