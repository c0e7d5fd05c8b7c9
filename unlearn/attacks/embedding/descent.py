"""Gradient steps on embeddings: the search of attacks that are bound to no word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from unlearn.models.weights.gradients import gradients_of
from unlearn.settings import Settings, setting

RULES = ("adam", "sign")


@dataclass(kw_only=True)
class Descent(Settings):
    """Goes down a loss of embeddings, in steps of Adam on its gradient or on the gradient's sign.

    Attributes:
        rule: ``adam`` or ``sign``.
        steps: How many.
        lr: Length of a step in each coordinate, about.
        weight_decay: Share of ``lr`` by which the embeddings shrink each step.
        accumulate: Never clear the gradient, so that each step takes the sum of all so far. This is a mistake
            of AdvUnlearn's released code, here to reproduce it.
        stale: Return the embeddings as they were before the last step; another of them.
    """

    rule: str = setting(default="adam", choices=RULES)
    steps: int = setting(least=1)
    lr: float = setting(above=0)
    weight_decay: float = setting(default=0.0, least=0)
    accumulate: bool = False
    stale: bool = False

    def descend(
        self,
        start: Tensor,
        loss: Callable[[int, Tensor], Tensor],
        longest: float | None = None,
        progress: bool = False,
    ) -> tuple[Tensor, float]:
        """Takes all steps.

        Arguments:
            start: With shape :math:`(..., E)`.
            loss: The loss of the embeddings in a step, with shape :math:`()`.
            longest: Bound on the length of each embedding; None for none.
            progress: Whether a terminal is shown a bar.

        Returns:
            The embeddings, without gradient, and the last loss on the way.
        """
        # Small steps would be rounded away in half precision.
        wide = torch.promote_types(start.dtype, torch.float32)
        embeddings = start.detach().to(wide, copy=True).requires_grad_()
        stepper = torch.optim.AdamW([embeddings], lr=self.lr, weight_decay=self.weight_decay)
        hidden = None if progress else True  # None: shown on a terminal alone
        for step in tqdm(range(self.steps), desc="attack", unit="step", disable=hidden):
            before = embeddings.detach().clone()
            value = loss(step, embeddings)
            (gradient,) = gradients_of(value, [embeddings])
            if self.accumulate and embeddings.grad is not None:
                gradient = gradient + embeddings.grad
            embeddings.grad = gradient.sign() if self.rule == "sign" else gradient
            stepper.step()
            if longest is not None:
                with torch.no_grad():
                    lengths = embeddings.norm(dim=-1, keepdim=True)
                    embeddings.mul_((longest / lengths).clamp(max=1))
        return before if self.stale else embeddings.detach(), value.item()
