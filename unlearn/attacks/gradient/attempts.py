"""What a search by gradients has tried for one prompt, and the best of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from torch import Tensor

CHOICES = ("latest", "lowest")

Row = tuple[int, ...]
"""Tokens, as positions in the table that a search chooses from."""


@dataclass
class Attempt:
    """One prompt under attack.

    Attributes:
        prompt: The best text.
        tokens: Its added tokens, with shape :math:`(K)`, on the CPU.
        forwards: Denoiser forwards spent.
        queries: Candidates that were looked at.
        first: How many it took until the best showed the concept; counts only if it does.
        score: The detector's mean probability of the concept, for the best.
        shown: Whether all of its images showed it.
        failed: Whether the detector failed on any image of this prompt.
        objective: The objective for the tokens at the start, and in the end.
        losses: Of all that was tried, one for each time.
        looked: What was chosen to be looked at.
    """

    prompt: str
    tokens: Tensor
    forwards: int
    queries: int = 0
    first: int | None = None
    score: float = -1.0
    shown: bool = False
    failed: bool = False
    objective: list[float] = field(default_factory=list)
    losses: dict[Row, list[float]] = field(default_factory=dict)
    looked: set[Row] = field(default_factory=set)

    def note(self, tried: Sequence[int], loss: float) -> None:
        """What some tokens lost in a step."""
        self.losses.setdefault(tuple(tried), []).append(loss)

    def choice(self, latest: Sequence[int], choose: str) -> list[int]:
        """The tokens to look at next.

        Arguments:
            latest: The search's tokens of choice.
            choose: ``latest``, or ``lowest``: of what was tried and not looked at, that of the lowest mean
                loss; the latest again where there is none.
        """
        chosen: Row = tuple(latest)
        if choose == "lowest":
            means = {row: fmean(losses) for row, losses in self.losses.items() if row not in self.looked}
            chosen = min(means, key=means.__getitem__, default=chosen)
        self.looked.add(chosen)
        return list(chosen)

    def take(self, prompt: str, tokens: Tensor, shown: Tensor, probability: Tensor) -> None:
        """Keeps what was looked at if it is the best so far.

        Arguments:
            shown, probability: What the detector says of each of its images, each with shape :math:`(N)`;
                False and NaN where it failed. What could not be judged in full is not kept.
        """
        self.queries += 1
        self.failed |= bool(probability.isnan().any())
        score = probability.mean().item()
        if bool(shown.all()) or score > self.score:
            if bool(shown.all()) and not self.shown:
                self.first = self.queries
            self.prompt, self.tokens, self.score, self.shown = prompt, tokens, score, bool(shown.all())
