"""A model that draws noise in no time, and images of it as a run draws them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import torch

from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.sampling import Sampler
from unlearn.pipeline.drawing import Drawing, image_set
from unlearn.pipeline.erasing import Erased

SAMPLER = Sampler(scheduler="ddim", steps=2, guidance=1.0, resolution=8, batch_size=2)
PROMPTS = PromptSet("plain", ("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5), ("red",) * 5, ("red",) * 5)
CHANGED = Erasure(weights={"unet.x": torch.zeros(1)})


class Model:
    """Draws noise from the seed, darker when erased; stops after ``limit`` batches."""

    def __init__(self, limit=None):
        self.drawn, self.limit, self.darker = 0, limit, 1.0

    @contextmanager
    def erased(self, erasure):
        self.darker = 0.5 if erasure.weights else 1.0
        yield self
        self.darker = 1.0


class Dark(Guard):
    """Lets no light through."""


def noise(model, prompts, seeds, sampler, guard=None, start=None):  # noqa: ARG001
    """Draws as :func:`unlearn.models.sampling.draw`, from a :class:`Model`; black under a guard."""
    for first in range(0, len(prompts), sampler.batch_size):
        if model.limit is not None and model.drawn >= model.limit:
            raise KeyboardInterrupt
        batch = seeds[first : first + sampler.batch_size]
        model.drawn += len(batch)
        images = [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in batch]
        yield torch.stack(images) * (model.darker if guard is None else 0.0)


def generate(store, model, request=ImageRequest("plain"), erasure=CHANGED, prompts=PROMPTS, sampler=SAMPLER):  # noqa: B008
    """The images of one request, drawn with ``model``."""
    erased = Erased(erasure, Path(), {"source": {"model": 1}, "method": "x"}, {})
    return image_set(request, prompts, erased, Drawing(lambda: model, sampler, store))
