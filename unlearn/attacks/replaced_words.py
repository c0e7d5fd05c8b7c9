"""Words in place of those that say the concept."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.prompt_attack import Space
from unlearn.attacks.spaces import concept_words, stable_words, written


@dataclass(kw_only=True)
class ReplacedWords(Space):
    """Other words in place of the concept's phrases, wherever a prompt says one; before it if it says none.

    None of the words says a phrase of the concepts or part of one, and all survive being written and read
    again.

    Attributes:
        tokens: How many words, :math:`K`, take the place of a phrase.
    """

    tokens: int

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"tokens: must be at least 1, got {self.tokens}")

    def propose(self, target: Target, prompt: str, count: int, generator: Generator) -> Tensor:  # noqa: ARG002
        """Random candidates, with shape :math:`(count, K)`."""
        vocabulary = stable_words(target, concept_words(target.concepts))
        return vocabulary[torch.randint(len(vocabulary), (count, self.tokens), generator=generator)]

    def text(self, target: Target, prompt: str, candidate: Tensor) -> str:
        """The prompt with the candidate's words; the longest phrase is replaced where several fit."""
        new = written(target, candidate.tolist())
        phrases = sorted(target.concepts.phrases, key=len, reverse=True)
        said = "|".join(re.escape(phrase) for phrase in phrases)
        text, count = re.subn(rf"(?<!\w)(?:{said})(?!\w)", lambda _: new, prompt, flags=re.IGNORECASE)
        return text if count else f"{new} {prompt}"
