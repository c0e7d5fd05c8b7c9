"""Clean latents that the original model draws once, for methods that train on its own images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler, sample


@torch.no_grad()
def clean_latents(
    model: DiffusionModel, prompts: Conditioning, rows: Sequence[int], seeds: Sequence[int], sampler: Sampler
) -> Tensor:
    """Draws one image for each entry of ``rows``.

    Arguments:
        prompts: Encoded prompts.
        rows: Number of each image's prompt.
        seeds: Seed of each image's noise.
        sampler: How they are drawn.

    Returns:
        Clean latents with shape :math:`(N, C, h, w)`, on the CPU.
    """
    empty = model.encode([""])
    size = sampler.batch_size
    chunks = [slice(i, i + size) for i in range(0, len(rows), size)]
    return torch.cat(
        [
            sample(model, prompts[list(rows[chunk])], empty, list(seeds[chunk]), sampler)[0].cpu()
            for chunk in chunks
        ]
    )
