"""How a gradient of token embeddings becomes the next choice of tokens, for many prompts at once.

Every prompt evolves as it would alone: the steps are elementwise, or row by row, and the random numbers come
from its own generator.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

from unlearn.settings import Settings, setting

STARTS = ("uniform", "random")


class TokenSearch(Settings, ABC):
    """How tokens are chosen by gradients."""

    @abstractmethod
    def start(self, table: Tensor, tokens: int, generators: Sequence[Generator]) -> Tokens:
        """The first choice.

        Arguments:
            table: Embeddings of the tokens to choose from, with shape :math:`(V, E)`.
            tokens: How many tokens, :math:`K`, are chosen for each prompt.
            generators: One for each of :math:`B` prompts, on the CPU.
        """


class Tokens(ABC):
    """Tokens under search for :math:`B` prompts, as positions in the table."""

    def __init__(self, table: Tensor, values: Tensor, generators: Sequence[Generator]) -> None:
        self.table = table
        # Small steps, and shares of many tokens, would be rounded away in half precision.
        self.values = values.to(table.device, torch.promote_types(table.dtype, torch.float32), copy=True)
        self.generators = list(generators)
        self.optimizer = self.fresh()

    @abstractmethod
    def fresh(self) -> torch.optim.Optimizer:
        """An optimizer of :attr:`values` that has seen nothing."""

    @abstractmethod
    def tried(self) -> Tensor:
        """The tokens whose gradient is wanted next, with shape :math:`(B, K)`."""

    @abstractmethod
    def step(self, gradient: Tensor) -> None:
        """Takes the gradient of the embeddings of what was tried, with shape :math:`(B, K, E)`."""

    @abstractmethod
    def best(self) -> Tensor:
        """The tokens of choice, with shape :math:`(B, K)`."""

    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with some of the prompts."""
        index = torch.tensor(rows, dtype=torch.long, device=self.values.device)
        states = list(self.optimizer.state.values())
        self.values = self.values[index]
        self.generators = [self.generators[row] for row in rows]
        self.optimizer = self.fresh()
        for state in states:
            kept = {k: v[index] if v.dim() else v for k, v in state.items() if isinstance(v, Tensor)}
            self.optimizer.state[self.values] = kept


@dataclass(kw_only=True)
class TokenDistributions(TokenSearch):
    r"""Adam on a distribution over the tokens of each place, projected onto the simplex (UnlearnDiffAtk).

    In each step a token is drawn from each distribution; the gradient goes straight through the drawing, is
    clipped to :math:`[-1, 1]` entry by entry, and each row is projected back. The choice is the likeliest
    token. The released code projects by a bisection that stops at row sums of 0.95; this is the exact
    projection.

    References:
        | To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy to Generate Unsafe
        | Images ... For Now (Zhang et al., 2023)
        | https://arxiv.org/abs/2310.11868

    Attributes:
        lr: Learning rate of Adam.
        weight_decay: Weight of the squared length, added to the gradient.
        init: ``uniform``, or ``random`` numbers that are projected.
    """

    lr: float = setting(above=0)
    weight_decay: float = setting(least=0)
    init: str = setting(choices=STARTS, kind="start")

    def start(self, table: Tensor, tokens: int, generators: Sequence[Generator]) -> Tokens:
        """Distributions with shape :math:`(B, K, V)`."""
        size = len(table)
        if self.init == "uniform":
            values = torch.full((len(generators), tokens, size), 1 / size)
        else:
            values = simplex(torch.stack([torch.rand(tokens, size, generator=g) for g in generators]))
        return _Distributions(self, table, values, generators)


class _Distributions(Tokens):
    def __init__(
        self, search: TokenDistributions, table: Tensor, values: Tensor, generators: Sequence[Generator]
    ) -> None:
        self.search = search
        super().__init__(table, values, generators)

    def fresh(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.values], lr=self.search.lr, weight_decay=self.search.weight_decay)

    def tried(self) -> Tensor:
        draws = torch.stack([torch.rand(self.values.shape[1], 1, generator=g) for g in self.generators])
        sums = self.values.cumsum(dim=-1)
        return (sums < draws.to(sums) * sums[..., -1:]).sum(dim=-1).clamp(max=len(self.table) - 1)

    def step(self, gradient: Tensor) -> None:
        self.values.grad = (gradient.to(self.values) @ self.table.to(self.values).T).clamp(-1, 1)
        self.optimizer.step()
        self.values.copy_(simplex(self.values))

    def best(self) -> Tensor:
        return self.values.argmax(dim=-1)


def simplex(values: Tensor) -> Tensor:
    """The nearest vectors whose entries are at least 0 and sum to 1, with shape :math:`(..., V)`."""
    ordered = values.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, values.shape[-1] + 1, device=values.device, dtype=values.dtype)
    excess = ordered.cumsum(dim=-1) - 1
    # The largest rank whose entry stays above 0 when the excess is shared out among those above it.
    last = (ordered * ranks > excess).sum(dim=-1, keepdim=True)
    return (values - excess.gather(-1, last - 1) / last).clamp(min=0)


@dataclass(kw_only=True)
class NearestTokens(TokenSearch):
    """AdamW on free embeddings, by the gradient at the token that is nearest to each (PEZ, as in P4D).

    Nearest is by cosine. The start is a random token.

    References:
        | Prompting4Debugging: Red-Teaming Text-to-Image Diffusion Models by Finding Problematic Prompts
        | (Chin et al., 2023)
        | https://arxiv.org/abs/2309.06135
        | Hard Prompts Made Easy: Gradient-Based Discrete Optimization for Prompt Tuning and Discovery
        | (Wen et al., 2023)
        | https://arxiv.org/abs/2302.03668

    Attributes:
        lr: Learning rate of AdamW.
        weight_decay: Share of ``lr`` by which the embeddings shrink each step.
    """

    lr: float = setting(above=0)
    weight_decay: float = setting(least=0)

    def start(self, table: Tensor, tokens: int, generators: Sequence[Generator]) -> Tokens:
        """Embeddings with shape :math:`(B, K, E)`."""
        rows = torch.stack([torch.randint(len(table), (tokens,), generator=g) for g in generators])
        return _Embeddings(self, table, table[rows.to(table.device)], generators)


class _Embeddings(Tokens):
    def __init__(
        self, search: NearestTokens, table: Tensor, values: Tensor, generators: Sequence[Generator]
    ) -> None:
        self.search = search
        super().__init__(table, values, generators)
        self.directions = normalize(table.to(self.values), dim=-1)

    def fresh(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW([self.values], lr=self.search.lr, weight_decay=self.search.weight_decay)

    def tried(self) -> Tensor:
        return self.best()

    def step(self, gradient: Tensor) -> None:
        self.values.grad = gradient.to(self.values)
        self.optimizer.step()

    def best(self) -> Tensor:
        return (normalize(self.values, dim=-1) @ self.directions.T).argmax(dim=-1)
