"""Searches that follow nothing but the losses of whole candidates, for many prompts at once.

Each prompt has a :class:`Hunt` with a random stream of its own; :func:`minimise` asks all of them for
candidates and has these scored together. So a prompt's result does not depend on what stands beside it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from operator import itemgetter
from typing import ClassVar

import torch
from torch import Generator, Tensor

from unlearn.settings import Settings, setting


class Losses(ABC):
    """The loss of candidates for some prompts; a candidate is a row of positions in the vocabulary."""

    @abstractmethod
    def values(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """Losses with shape :math:`(N)`, on the CPU; infinite for what cannot be taken.

        Arguments:
            rows: Which prompt each candidate is for, with shape :math:`(N)`.
            candidates: With shape :math:`(N, K)`.
        """

    def slopes(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """Gradients with shape :math:`(N, K, V)`: of each word in each place, were it added to what is there.

        Arguments:
            rows, candidates: As in :meth:`values`.

        Raises:
            NotImplementedError: If there are none; searches that are not guided do without.
        """
        raise NotImplementedError


@dataclass(kw_only=True)
class TextSearch(Settings, ABC):
    """How the next candidates are chosen.

    Attributes:
        rounds: How often candidates are scored at most.
        patience: Rounds without a better candidate after which a prompt is done.
        guided: Whether a hunt needs the gradient at :attr:`Hunt.at`.
    """

    guided: ClassVar[bool] = False

    rounds: int = setting(least=1)
    patience: int = setting(least=1)

    @property
    def beginnings(self) -> int:
        """How many hunts there are for each prompt."""
        return 1

    @abstractmethod
    def start(self, words: int, tokens: int, generator: Generator) -> Hunt:
        """A hunt for one prompt.

        Arguments:
            words: Size of the vocabulary, :math:`V`.
            tokens: Words of a candidate, :math:`K`.
            generator: All of its randomness, on the CPU.
        """


class Hunt(ABC):
    """The search for one prompt, or one of several for it.

    Attributes:
        at: The candidate that it stands at, with shape :math:`(K)`.
        best: The best that it has met, with shape :math:`(K)`.
        value: The loss of that.
        first: The loss of the first that was scored, and could be taken.
        tried: Candidates that were scored for it.
        stale: Rounds since it met a better one.
        keep: How many of the best that it has met it remembers.
    """

    def __init__(self, at: Tensor) -> None:
        self.at, self.keep = at, 1
        self.best, self.value, self.first = at, float("inf"), float("nan")
        self.tried = self.stale = 0
        self._known: dict[tuple[int, ...], float] = {}
        self._leaders: dict[tuple[int, ...], float] = {}
        self._round: list[tuple[int, ...]] = []

    @abstractmethod
    def propose(self, slopes: Tensor | None) -> Tensor:
        """The candidates of this round, with shape :math:`(C, K)`.

        Arguments:
            slopes: At :attr:`at`, with shape :math:`(K, V)`; None unless the search is guided.
        """

    @abstractmethod
    def move(self, candidates: Tensor, values: Tensor) -> None:
        """Goes on from the round's distinct candidates, with shape :math:`(C, K)`, and their losses."""

    def ask(self, slopes: Tensor | None) -> Tensor:
        """What is to be scored: the round's candidates but for those whose loss the last round knew."""
        proposed = self.propose(slopes)
        self._round = list(dict.fromkeys(map(tuple, proposed.tolist())))
        new = [row for row in self._round if row not in self._known]
        return torch.tensor(new, dtype=torch.long).reshape(len(new), proposed.shape[1])

    def tell(self, asked: Tensor, values: Tensor) -> None:
        """Takes the losses, with shape :math:`(C)`, of what it asked for."""
        if math.isnan(self.first) and (allowed := values[values.isfinite()]).numel():
            self.first = allowed[0].item()
        self.tried += len(asked)
        self._known |= dict(zip(map(tuple, asked.tolist()), values.tolist(), strict=True))
        self._known = {row: self._known[row] for row in self._round}
        self._leaders = dict(nsmallest(self.keep, (self._leaders | self._known).items(), key=itemgetter(1)))
        candidates = torch.tensor(self._round)
        losses = torch.tensor(list(self._known.values()), dtype=torch.float64)
        first = int(losses.argmin())
        self.stale += 1
        if losses[first].item() < self.value:
            self.best, self.value, self.stale = candidates[first], losses[first].item(), 0
        self.move(candidates, losses)

    def leaders(self) -> list[tuple[Tensor, float]]:
        """The best that it has met and that can be taken, and their losses, the very best first."""
        return [(torch.tensor(row), value) for row, value in self._leaders.items() if math.isfinite(value)]


def minimise(
    search: TextSearch,
    losses: Losses,
    words: int,
    tokens: int,
    generators: Sequence[Generator],
    keep: int = 1,
) -> list[list[Hunt]]:
    """Runs the hunts of all prompts, each until it is out of rounds or of patience.

    Arguments:
        words, tokens: As in :meth:`TextSearch.start`.
        generators: One for each prompt; its hunts share it.
        keep: How many of the best are remembered for each prompt, by its hunts in equal shares.

    Returns:
        The hunts for each prompt.
    """
    from tqdm import tqdm

    count = search.beginnings
    hunts = [search.start(words, tokens, generator) for generator in generators for _ in range(count)]
    for hunt in hunts:
        hunt.keep = math.ceil(keep / count)
    live = list(range(len(hunts)))
    for _ in tqdm(range(search.rounds), desc="attack", unit="round", disable=None):
        slopes: list[Tensor | None] = [None] * len(live)
        if search.guided:
            places = torch.stack([hunts[each].at for each in live])
            slopes = list(losses.slopes(torch.tensor(live) // count, places))
        asked = [hunts[each].ask(slope) for each, slope in zip(live, slopes, strict=True)]
        counts = [len(each) for each in asked]
        rows = (torch.tensor(live) // count).repeat_interleave(torch.tensor(counts))
        values = losses.values(rows, torch.cat(asked)) if len(rows) else torch.empty(0)
        for each, own, told in zip(live, asked, torch.split(values, counts), strict=True):
            hunts[each].tell(own, told)
        live = [each for each in live if hunts[each].stale < search.patience]
        if not live:
            break
    return [hunts[first : first + count] for first in range(0, len(hunts), count)]
