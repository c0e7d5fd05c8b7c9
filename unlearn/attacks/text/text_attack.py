"""Attacks by the original text encoder: what it takes for the concept is found for no erased model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Generator, Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.guesses import Guess, GuessingAttack, guessed
from unlearn.attacks.spaces import AddedTokens, concept_words, parts, stable_words
from unlearn.attacks.text.encoded import Encoded, Read
from unlearn.attacks.text.text_search import minimise
from unlearn.concepts.concept import PromptSet
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
