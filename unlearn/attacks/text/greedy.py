"""A search over words that needs nothing but losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.attacks.text.text_search import Hunt, TextSearch
from unlearn.settings import setting


@dataclass(kw_only=True)
class Greedy(TextSearch):
    """Tries words in one place after another, and keeps the best; where no place gets better, begins anew.

    Attributes:
        rounds: How often a place is looked at, at most.
        patience: Rounds without a better candidate after which a prompt is done.
        candidates: Random words that are tried in the place; all there are, if fewer.
    """

    candidates: int = setting(least=1)

    def start(self, words: int, tokens: int, generator: Generator) -> Hunt:
        """Random words."""
        return _Climb(self, words, tokens, generator)


class _Climb(Hunt):
    def __init__(self, search: Greedy, words: int, tokens: int, generator: Generator) -> None:
        super().__init__(torch.randint(words, (tokens,), generator=generator))
        self.search, self.words, self.generator = search, words, generator
        self.place, self.still, self.level = 0, 0, float("inf")

    def propose(self, slopes: Tensor | None) -> Tensor:  # noqa: ARG002
        drawn = torch.randperm(self.words, generator=self.generator)[: self.search.candidates]
        rows = self.at.repeat(len(drawn) + 1, 1)
        rows[1:, self.place] = drawn
        return rows

    def move(self, candidates: Tensor, values: Tensor) -> None:
        first = int(values.argmin())
        self.still = 0 if values[first].item() < self.level else self.still + 1
        self.at, self.level = candidates[first], values[first].item()
        self.place = (self.place + 1) % len(self.at)
        if self.still >= len(self.at):
            self.at = torch.randint(self.words, self.at.shape, generator=self.generator)
            self.still, self.level = 0, float("inf")
