"""Noised images of anchors, and what the original model predicts on them, taken once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.methods.method import Context
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.material.states import once
from unlearn.models.model import Conditioning, DiffusionModel


@dataclass(frozen=True)
class PredictedBatch:
    r"""Some of them.

    Attributes:
        latents: :math:`x_t`, with shape :math:`(B, C, h, w)`.
        timesteps: :math:`t`, with shape :math:`(B,)`.
        erased: A sentence with the concept for each, :math:`c`.
        anchored: :math:`\epsilon_\phi(x_t, t, a)` for the same sentence with the anchor.
        mistaken: :math:`\epsilon_\phi(x_t, t, c)`.
    """

    latents: Tensor
    timesteps: Tensor
    erased: Conditioning
    anchored: Tensor
    mistaken: Tensor


@dataclass(frozen=True)
class Predicted:
    """Noised images of anchors: number :math:`i` is of image :math:`i \\bmod N`.

    Of these only the predictions are held; noise is drawn anew from the same seed.

    Attributes:
        anchors: The images.
        anchored: What the original predicts for each one's own sentence, with shape :math:`(M, C, h, w)`, in
            float32, as what is trained predicts.
        mistaken: The same for the sentence with the concept in the anchor's place.
    """

    anchors: Anchors
    anchored: Tensor
    mistaken: Tensor

    @classmethod
    @torch.no_grad()
    def draw(
        cls, model: DiffusionModel, anchors: Anchors, count: int, batch_size: int, context: Context
    ) -> Predicted:
        """Predicts ``count`` of them, unless a killed run left that in its scratch.

        Arguments:
            batch_size: How many predictions are made at once.
        """

        def make() -> dict[str, Tensor]:
            parts = []
            size = max(1, batch_size // 2)
            for start in range(0, count, size):
                numbers = torch.arange(start, min(start + size, count))
                x, t, erased, anchored = _scenes(model, anchors, numbers, context)
                both = Conditioning.cat([anchored, erased])
                parts.append(model.predict(x.repeat(2, 1, 1, 1), t.repeat(2), both).float().cpu().chunk(2))
            first, second = (torch.cat(each) for each in zip(*parts, strict=True))
            return {"anchored": first, "mistaken": second}

        return cls(anchors, **once(context.scratch / "predicted.safetensors", make, context.meter))

    def batch(self, model: DiffusionModel, size: int, step: int, context: Context) -> PredictedBatch:
        """Those of one step, out of shuffled passes over all."""
        chosen = shuffled(len(self.anchored), size, step, context, "predicted")
        x, t, erased, _ = _scenes(model, self.anchors, chosen, context)
        anchored, mistaken = (each[chosen].to(x.device) for each in (self.anchored, self.mistaken))
        return PredictedBatch(x, t, erased, anchored, mistaken)


def _scenes(
    model: DiffusionModel, anchors: Anchors, numbers: Tensor, context: Context
) -> tuple[Tensor, Tensor, Conditioning, Conditioning]:
    """Latents and timesteps by number, a sentence to erase for each, and the anchor's."""
    noised, erased, anchored = [], [], []
    for number in numbers.tolist():
        random = context.generator("predicted", number)
        image = number % len(anchors.images)
        row = image % len(anchors.partners)
        partners = anchors.partners[row]
        erased.append(partners[int(torch.randint(len(partners), (), generator=random))])
        anchored.append(row)
        noised.append(Noised.draw(model, anchors.images[image : image + 1], random))
    return (
        torch.cat([each.latents for each in noised]),
        torch.cat([each.timesteps for each in noised]),
        anchors.erased[erased],
        anchors.anchored[anchored],
    )
