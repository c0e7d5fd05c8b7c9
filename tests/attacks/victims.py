"""Models that a concept was erased from, or that never knew it."""

from __future__ import annotations

import torch

from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.seeding import generator


def misreading(model: DiffusionModel, words: dict[str, str]) -> Erasure:
    """The model reads each word as another; all are single tokens."""
    (name,) = (name for name, _ in model.named_parameters() if name.endswith("token_embedding.weight"))
    table = dict(model.named_parameters())[name].detach()
    changed = table.clone()
    for word, other in words.items():
        row, wanted = (model.tokenize([each])[0, 1].item() for each in (word, other))
        changed[row] = table[wanted]
    return Erasure(weights={name: changed})


def never_knew(model: DiffusionModel) -> Erasure:
    """The denoiser is random."""
    random = generator(0)
    return Erasure(
        weights={
            name: weight.std() * torch.randn(weight.shape, generator=random)
            if weight.ndim > 1
            else weight.clone()
            for name, weight in model.named_parameters()
            if name.startswith("unet.")
        }
    )
