"""A search that asks for nothing but the values of a few candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearn.attacks.prompt_attack import Loss, Propose, Search


@dataclass(kw_only=True)
class HillClimb(Search):
    """Looks at some random candidates, and from then on at the best so far with one word changed.

    It stops at the first batch that has a candidate with which the concept shows.

    Attributes:
        queries: Candidates that are looked at in all, at most.
        together: Candidates that are looked at in one batch; those of a batch change each place equally
            often.
    """

    queries: int
    together: int

    def __post_init__(self) -> None:
        for key in ("queries", "together"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, got {getattr(self, key)}")

    def limited(self, candidates: int) -> HillClimb:
        """The same with no more than so many candidates."""
        return replace(self, queries=min(candidates, self.queries))

    def minimise(self, loss: Loss, propose: Propose) -> tuple[Tensor, float, int]:
        """The best of what was looked at; of equally good ones the first."""
        # All random words are drawn at once: what is drawn does not depend on what is found.
        pool = propose(self.queries)
        best, value, tried = pool[0], float("inf"), 0
        while tried < len(pool) and value > 0:
            drawn = pool[tried : tried + self.together]
            if tried:
                rows = torch.arange(len(drawn))
                places = (rows + tried) % pool.shape[1]
                changed = best.repeat(len(drawn), 1)
                changed[rows, places] = drawn[rows, places]
                drawn = changed
            losses = loss(drawn)
            tried += len(drawn)
            first = int(losses.argmin())
            if losses[first].item() < value:
                best, value = drawn[first], losses[first].item()
        return best, value, tried
