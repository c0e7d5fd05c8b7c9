"""A search over words by the gradient of what stands in each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from unlearn.attacks.text.text_search import Hunt, TextSearch
from unlearn.settings import setting


@dataclass(kw_only=True)
class CoordinateGradient(TextSearch):
    r"""Greedy coordinate gradient: of many single swaps that the gradient likes, the best one is made.

    With :math:`g_{kv}` the derivative of the loss by the share of word :math:`v` in place :math:`k`, swaps
    are drawn from the ``top`` words of smallest :math:`g_{kv}`, for each place equally often. All of them are
    scored, and the search moves to the best, whether or not it is better than where it stands; the best that
    was ever met is kept.

    References:
        | Universal and Transferable Adversarial Attacks on Aligned Language Models (Zou et al., 2023)
        | https://arxiv.org/abs/2307.15043
        | MMA-Diffusion: MultiModal Attack on Diffusion Models (Yang et al., 2023)
        | https://arxiv.org/abs/2311.17516

    Attributes:
        rounds: Steps.
        patience: Steps without a better candidate after which a prompt is done.
        candidates: Swaps that are scored in each step.
        top: Words of each place that they are drawn from.
        starts: How many searches there are for each prompt, each from other words. Single swaps are all that
            one of them knows of around its best: where several finds are drawn, they differ only if they are
            of several searches.
    """

    guided: ClassVar[bool] = True

    candidates: int = setting(least=1)
    top: int = setting(least=1)
    starts: int = setting(least=1)

    @property
    def beginnings(self) -> int:
        """As many as there are starts."""
        return self.starts

    def start(self, words: int, tokens: int, generator: Generator) -> Hunt:
        """Random words."""
        return _Descent(self, torch.randint(words, (tokens,), generator=generator), generator)


class _Descent(Hunt):
    def __init__(self, search: CoordinateGradient, at: Tensor, generator: Generator) -> None:
        super().__init__(at)
        self.search, self.generator = search, generator

    def propose(self, slopes: Tensor | None) -> Tensor:
        assert slopes is not None
        swaps = likely_swaps(self.at, slopes, self.search.top, self.search.candidates, self.generator)
        # The start is no swap of anything, and is to be beaten, too.
        return torch.cat([self.at[None], swaps]) if self.tried == 0 else swaps

    def move(self, candidates: Tensor, values: Tensor) -> None:
        self.at = candidates[int(values.argmin())]


def likely_swaps(at: Tensor, slopes: Tensor, top: int, count: int, generator: Generator) -> Tensor:
    """Single swaps that the gradient likes, with shape :math:`(count, K)`.

    Arguments:
        at: What is swapped, with shape :math:`(K)`.
        slopes: Derivative of the loss by the share of each word in each place, with shape :math:`(K, V)`.
        top: From how many words of each place they are drawn.
    """
    tokens, words = slopes.shape
    ranked = slopes.clone()
    ranked[torch.arange(tokens), at.to(slopes.device)] = float("inf")  # what is there is no swap
    likely = ranked.topk(min(top, words - 1), dim=1, largest=False).indices.cpu()
    first = int(torch.randint(tokens, (), generator=generator))
    places = (torch.arange(count) + first) % tokens
    drawn = torch.randint(likely.shape[1], (count,), generator=generator)
    swaps = at.repeat(count, 1)
    swaps[torch.arange(count), places] = likely[places, drawn]
    return swaps
