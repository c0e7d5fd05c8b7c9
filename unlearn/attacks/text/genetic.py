"""A genetic search over words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.attacks.text.text_search import Hunt, TextSearch
from unlearn.settings import setting


@dataclass(kw_only=True)
class Genetic(TextSearch):
    """Keeps the better half, crosses its members at one point, and changes a word here and there.

    In each generation the better half survives. Each survivor may be crossed with another at random: both
    children are added. Then every member but the best may have one of its words replaced by a random one. The
    released code may change the best, too, and so lose it; it scores survivors again and keeps duplicates.

    References:
        | Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models? (Tsai et al., 2023)
        | https://arxiv.org/abs/2310.10012

    Attributes:
        rounds: Generations.
        patience: Generations without a better candidate after which a prompt is done.
        population: Candidates in the first generation; half as many survive each.
        crossover: Probability that a survivor is crossed.
        mutation: Probability that a member has a word replaced.
    """

    population: int = setting(least=2)
    crossover: float = setting(least=0, most=1)
    mutation: float = setting(least=0, most=1)

    def start(self, words: int, tokens: int, generator: Generator) -> Hunt:
        """A random population."""
        return _Herd(
            self, words, torch.randint(words, (self.population, tokens), generator=generator), generator
        )


class _Herd(Hunt):
    def __init__(self, search: Genetic, words: int, members: Tensor, generator: Generator) -> None:
        super().__init__(members[0])
        self.search, self.words, self.members, self.generator = search, words, members, generator

    def propose(self, slopes: Tensor | None) -> Tensor:  # noqa: ARG002
        return self.members

    def move(self, candidates: Tensor, values: Tensor) -> None:
        order = values.sort(stable=True).indices
        survivors = candidates[order[: self.search.population // 2]]
        count, tokens = survivors.shape
        self.at = survivors[0]
        # With a single word there is nothing to cross: the children are the parents, and fall out.
        cuts = self._integers(max(tokens - 1, 1), count) + 1
        crossing = self._chances(count) < self.search.crossover
        family = crossed(survivors, crossing, self._integers(count, count), cuts)
        changing = self._chances(len(family)) < self.search.mutation
        changing[0] = False
        places = self._integers(tokens, len(family))
        family = mutated(family, changing, places, self._integers(self.words, len(family)))
        distinct = list(dict.fromkeys(map(tuple, family.tolist())))
        # Where few words allow few candidates, newcomers keep a herd of twins from standing still.
        missing = max(count + 1 - len(distinct), 0)
        newcomers = torch.randint(self.words, (missing, tokens), generator=self.generator)
        self.members = torch.cat([torch.tensor(distinct), newcomers])

    def _chances(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator)

    def _integers(self, high: int, count: int) -> Tensor:
        return torch.randint(high, (count,), generator=self.generator)


def crossed(parents: Tensor, crossing: Tensor, mates: Tensor, cuts: Tensor) -> Tensor:
    """The parents, each followed by its two children if it is crossed.

    Arguments:
        parents: With shape :math:`(S, K)`.
        crossing: Whether each is crossed, with shape :math:`(S)`.
        mates: The position of the other parent.
        cuts: How many words the first child has from its first parent; the second child has the others' in
            each place.

    Returns:
        With shape :math:`(S', K)`.
    """
    others = parents[mates]
    head = torch.arange(parents.shape[1]) < cuts[:, None]
    families = torch.stack(
        [parents, torch.where(head, parents, others), torch.where(head, others, parents)], 1
    )
    kept = torch.stack([torch.ones_like(crossing), crossing, crossing], dim=1)
    return families[kept]


def mutated(members: Tensor, changing: Tensor, places: Tensor, words: Tensor) -> Tensor:
    """The members, some of them with one word replaced.

    Arguments:
        members: With shape :math:`(S, K)`.
        changing: Whether each is changed, with shape :math:`(S)`.
        places: Where.
        words: What for.
    """
    changed = members.clone()
    changed[changing, places[changing]] = words[changing]
    return changed
