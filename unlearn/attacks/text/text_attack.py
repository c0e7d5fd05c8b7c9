"""Attacks by the original text encoder: what it takes for the concept is found for no erased model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.fitting import Fitting
from unlearn.attacks.guesses import Guess, GuessingAttack, guessed
from unlearn.attacks.layout import Layout
from unlearn.attacks.spaces import AddedTokens, concept_words, parts, stable_words, written
from unlearn.attacks.text.coordinate_gradient import CoordinateGradient
from unlearn.attacks.text.genetic import Genetic
from unlearn.attacks.text.text_objectives import EndCosine, ShiftedEmbedding, TextObjective, text_losses
from unlearn.attacks.text.text_search import Losses, minimise
from unlearn.concepts.concept import PromptSet
from unlearn.models.weights.gradients import gradients_of
from unlearn.seeding import generator as seeded
from unlearn.settings import setting

VOCABULARIES = ("words", "parts")


@dataclass(kw_only=True)
class TextAttack(GuessingAttack):
    """Searches for words that the original text encoder takes for the concept.

    The candidates of all prompts are encoded together.

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        looks: How many of the best are drawn by the erased model, for the detector to choose from; with none,
            the erased model is attacked by the very best, unseen.
        space: Where words are added.
        objective: What they should come near to.
        search: Which words are tried next.
        vocabulary: ``words``, which survive being written and read again; or ``parts`` of words, too, whose
            losses are those of what the tokenizer reads in their text. These need ``place: replace``.
        banned: Whether what has a word in it that says a concept is left out.
        batch_size: Candidates that are encoded at a time.
    """

    paper: ClassVar[str] = ""

    space: AddedTokens
    objective: Any
    search: Any
    vocabulary: str = setting(choices=VOCABULARIES)
    banned: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.space.place == "every":
            raise ValueError("space.place: must add as many words to every prompt, got every")
        if self.vocabulary == "parts" and self.space.place != "replace":
            raise ValueError(f"vocabulary: parts need space.place=replace, got {self.space.place}")

    def guess(self, target: Target, prompts: PromptSet, generator: Generator) -> list[Guess]:
        """The words that come nearest, for each of ``prompts``."""
        banned = concept_words(target.concepts) if self.banned else []
        if self.vocabulary == "words":
            vocabulary = stable_words(target, banned)
            losses = Encoded(target, self.space, self.objective, prompts, vocabulary, self.batch_size)
        else:
            vocabulary = parts(target, banned)
            losses = Read(target, self.space, self.objective, prompts, vocabulary, self.batch_size)
            losses.banned = banned
        root = generator.initial_seed()
        generators = [seeded(root, "candidates", index) for index in range(len(prompts))]
        keep = max(1, self.looks)
        hunts = minimise(self.search, losses, len(vocabulary), self.space.tokens, generators, keep)

        def text(prompt: str, candidate: Tensor) -> str:
            return self.space.text(target, prompt, vocabulary[candidate])

        return [
            guessed(own, partial(text, prompt), keep)
            for prompt, own in zip(prompts.prompts, hunts, strict=True)
        ]


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


@dataclass(kw_only=True)
class RingABell(TextAttack):
    """Words instead of the prompt whose embedding is the prompt's, moved towards the concept.

    It departs from the authors' code in what keeps a prompt what was scored: only words are chosen that
    survive being written. The concept's direction is taken over sentences that are made for every concept.

    References:
        | Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models? (Tsai et al., 2023)
        | https://arxiv.org/abs/2310.10012
    """

    paper: ClassVar[str] = "2310.10012"
    objective: ShiftedEmbedding
    search: Genetic

    @property
    def reads(self) -> frozenset[str]:
        """The sentences that the concept's direction is taken over, with and without it."""
        return frozenset({"anchor", "templates"})

    def idle(self) -> dict[str, str]:
        """The sentences, where nothing is moved along their direction."""
        found = super().idle()
        unmoved = {"objective.sentences": "It counts with objective.strength above 0."}
        return found if self.objective.strength else found | unmoved


@dataclass(kw_only=True)
class MMADiffusion(TextAttack):
    """Words instead of the prompt that mean the same to the text encoder; with ``banned``, without a word of
    the concept, which a filter of prompts would know.

    The text part of the attack. The authors begin with random letters; here the start is random. What their
    tokens' text is read as is not what was scored where other tokens are read in it; here it is.

    References:
        | MMA-Diffusion: MultiModal Attack on Diffusion Models (Yang et al., 2023)
        | https://arxiv.org/abs/2311.17516
    """

    paper: ClassVar[str] = "2311.17516"
    objective: EndCosine
    search: CoordinateGradient

    @property
    def reads(self) -> frozenset[str]:
        """The anchor, whose words are not banned."""
        return frozenset({"anchor"} if self.banned else ())
