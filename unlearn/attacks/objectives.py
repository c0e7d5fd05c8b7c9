"""How close a candidate comes to bringing an erased concept back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.prompt_attack import Loss, Objective


@dataclass(kw_only=True)
class DetectorScore(Objective):
    """What the concept's detector says of an image of the candidate; needs no gradient of anything.

    The loss is :math:`1 - p` for the highest probability :math:`p` of the concept's labels, and :math:`-p`
    where the detector decides that the concept shows; infinite where the detector failed. All candidates are
    drawn from one noise.
    """

    def loss(self, target: Target, concept: str, text: Callable[[Tensor], str], seed: int) -> Loss:
        """Draws each candidate with ``seed`` and asks the detector."""

        @torch.no_grad()
        def loss(candidates: Tensor) -> Tensor:
            images = target.draw([text(row) for row in candidates], [seed] * len(candidates))
            shown, probability = target.judge(images, concept)
            # A probability of exactly 1 that a detector still refuses must not count as shown.
            missed = (1 - probability.double()).clamp_min(1e-9)
            losses = torch.where(shown, -probability.double(), missed)
            return losses.masked_fill(probability.isnan(), math.inf)

        return loss
