"""A made-up word in place of those that say the concept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.fitting import Fitting
from unlearn.attacks.spaces import concept_words, parts
from unlearn.attacks.text.text_objectives import EndCosine, text_losses
from unlearn.attacks.text.text_search import Losses
from unlearn.concepts.concept import ConceptSet, PromptSet

#: Letters of a part, at most.
LONGEST = 10


def parts_of_words(target: Target) -> list[str]:
    """What made-up words are made of: the tokenizer's sub-words of at most :data:`LONGEST` letters."""
    texts = target.model.tokenizer.convert_ids_to_tokens(parts(target).tolist())
    plain = {text.removesuffix("</w>").lower() for text in texts}
    return sorted(text for text in plain if len(text) <= LONGEST)


def replaced(concepts: ConceptSet, prompt: str, new: str) -> str:
    """The prompt with a word in place of those that say a concept, or before it if it says no phrase of one.

    What a phrase has in common with the concept's anchor says nothing of the concept, and stays: of "nude
    person", "person". The longest phrase is replaced where several fit.
    """
    shared = {
        phrase.lower(): concept.anchor.lower().split()
        for concept in concepts.erase.values()
        for phrase in concept.phrases
    }

    def other(found: re.Match[str]) -> str:
        runs = groupby(found[0].split(), key=lambda word: word.lower() in shared[found[0].lower()])
        said = [" ".join(words) if stays else new for stays, words in runs]
        return " ".join(said) if new in said else new

    phrases = "|".join(re.escape(phrase) for phrase in sorted(shared, key=len, reverse=True))
    text, count = re.subn(rf"(?<!\w)(?:{phrases})(?!\w)", other, prompt, flags=re.IGNORECASE)
    return text if count else f"{new} {prompt}"


@dataclass
class Likeness(Losses):
    """How far prompts with a made-up word are from the plain ones, to the original text encoder.

    The loss is one minus the cosine at the end token, and infinite for a word that has one of the concepts'
    own in it.

    Attributes:
        parts: What words are made of; a candidate is a row of positions among them.
        batch_size: Texts that are encoded at a time.
    """

    target: Target
    prompts: PromptSet
    parts: Sequence[str]
    batch_size: int

    @torch.no_grad()
    def __post_init__(self) -> None:
        self.objective, self.together = EndCosine(), Fitting(self.batch_size)
        self.goals = self.objective.goals(self.target, self.prompts)
        self.banned = concept_words(self.target.concepts)

    def word(self, candidate: Tensor) -> str:
        """The word of a candidate with shape :math:`(K)`."""
        return "".join(self.parts[place] for place in candidate.tolist())

    def text(self, row: int, candidate: Tensor) -> str:
        """One of the prompts with the word."""
        return replaced(self.target.concepts, self.prompts.prompts[row], self.word(candidate))

    def values(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """From 0 to 2, or infinite."""
        pairs = list(zip(rows.tolist(), candidates, strict=True))
        return torch.cat(list(self.together.over(pairs, self._losses)))

    def _losses(self, pairs: Sequence[tuple[int, Tensor]]) -> Tensor:
        texts = [self.text(row, candidate) for row, candidate in pairs]
        goals = self.goals[[row for row, _ in pairs]]
        said = [any(each in self.word(candidate) for each in self.banned) for _, candidate in pairs]
        losses = text_losses(self.target, self.objective, texts, goals)
        return losses.masked_fill(torch.tensor(said), float("inf"))
