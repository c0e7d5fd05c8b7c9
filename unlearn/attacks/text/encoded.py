"""The losses of added words by the text encoder: of their embeddings, or of what is read in their text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.fitting import Fitting
from unlearn.attacks.layout import Layout
from unlearn.attacks.spaces import AddedTokens, written
from unlearn.attacks.text.text_objectives import TextObjective, text_losses
from unlearn.attacks.text.text_search import Losses
from unlearn.concepts.concept import PromptSet
from unlearn.models.weights.gradients import gradients_of


class Encoded(Losses):
    """The losses of candidates for :math:`P` prompts, by the text encoder of the model as it is now.

    Attributes:
        table: Embeddings of the vocabulary, with shape :math:`(V, E)`.
        goals: What each prompt's candidates are compared with.
    """

    @torch.no_grad()
    def __init__(
        self,
        target: Target,
        space: AddedTokens,
        objective: TextObjective,
        prompts: PromptSet,
        vocabulary: Tensor,
        batch_size: int,
    ) -> None:
        self.target, self.vocabulary, self.together = target, vocabulary.cpu(), Fitting(batch_size)
        self.model, self.objective = target.model, objective
        self.table = self.model.embed(vocabulary[None].to(self.model.device))[0]
        self.goals = objective.goals(target, prompts)
        layouts = [Layout.of(target, space, prompt) for prompt in prompts.prompts]
        length = objective.length(max(layout.end for layout in layouts), self.model.max_tokens)
        self._embeddings = torch.stack([layout.embeddings[:length] for layout in layouts])
        self._places = torch.stack([layout.places for layout in layouts])
        self._ends = torch.tensor([layout.end for layout in layouts], device=self.table.device)

    @torch.no_grad()
    def values(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """In float64."""
        return self._each(
            rows, candidates, lambda own, some: self._losses(own, self.table[some]).double().cpu()
        )

    def slopes(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """Through the embeddings: a word's share counts for its embedding."""

        def slope(own: Tensor, some: Tensor) -> Tensor:
            # In half precision the gradient would be rounded away.
            added = self.table[some].float().requires_grad_()
            (gradient,) = gradients_of(self._losses(own, added).sum(), [added])
            return gradient @ self.table.float().T

        return self._each(rows, candidates, slope)

    def _each(self, rows: Tensor, candidates: Tensor, work: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """What ``work`` gives for ``batch_size`` candidates at a time, or for as many as fit."""
        own, some = rows.to(self.table.device), candidates.to(self.table.device)
        return torch.cat(
            list(self.together.over(range(len(own)), lambda part: work(own[list(part)], some[list(part)])))
        )

    def _losses(self, rows: Tensor, added: Tensor) -> Tensor:
        """Of embeddings with shape :math:`(N, K, E)` in their prompts' places."""
        index = (torch.arange(len(rows), device=rows.device)[:, None], self._places[rows])
        own = self._embeddings[rows]
        embeddings = torch.index_put(own, index, added.to(own.dtype))
        ends = self._ends[rows]
        encoded = self.model.encode_embeddings(embeddings, ends)
        return self.objective.losses(encoded.tokens, ends, self.goals[rows])


class Read(Encoded):
    """The same of what the tokenizer reads in the text of a candidate that takes the prompt's place.

    Attributes:
        banned: What no text may have in it: the loss is infinite then.
    """

    banned: Sequence[str] = ()

    @torch.no_grad()
    def values(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """In float64."""
        return self._each(rows, candidates, self._read)

    def _read(self, rows: Tensor, candidates: Tensor) -> Tensor:
        texts = [written(self.target, row) for row in self.vocabulary[candidates.cpu()].tolist()]
        losses = text_losses(self.target, self.objective, texts, self.goals[rows]).double()
        said = [any(each in text.lower() for each in self.banned) for text in texts]
        return losses.masked_fill(torch.tensor(said), float("inf"))
