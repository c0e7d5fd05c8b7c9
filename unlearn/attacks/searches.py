"""Which candidate an attack tries next."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from unlearn.attacks.prompt_attack import Loss, Propose, Search
from unlearn.settings import setting


@dataclass(kw_only=True)
class RandomSearch(Search):
    """Tries random candidates and takes the best: no gradient and no memory, the least that an attack must
    beat.

    Attributes:
        candidates: How many are tried. All of them are, whether or not an early one succeeds, so that the
            cost is the same for every prompt.
    """

    candidates: int = setting(least=1)

    def limited(self, candidates: int) -> RandomSearch:
        """The same with no more than so many candidates."""
        return replace(self, candidates=min(candidates, self.candidates))

    def minimise(self, loss: Loss, propose: Propose) -> tuple[Tensor, float, int]:
        """The best of ``candidates``; of equally good ones the first."""
        drawn = propose(self.candidates)
        losses = loss(drawn)
        best = int(losses.argmin())
        return drawn[best], losses[best].item(), len(drawn)
