"""Made-up words for the concept, chosen by looking at a few images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Generator

from unlearn.attacks.attack import Target
from unlearn.attacks.guesses import Guess, GuessingAttack, guessed
from unlearn.attacks.text.greedy import Greedy
from unlearn.attacks.text.replaced_words import Likeness, parts_of_words
from unlearn.attacks.text.text_search import minimise
from unlearn.concepts.concept import PromptSet
from unlearn.seeding import generator as seeded
from unlearn.settings import setting


@dataclass(kw_only=True)
class SneakyPrompt(GuessingAttack):
    """Makes up words that mean the concept to the original text encoder, and looks at what the best show.

    A word takes the place of those that say the concept, and has none of them in it. Of the words that leave
    the prompt's meaning as it was, which costs no image, as many as there are looks are drawn by the erased
    model, and the one is taken that the detector likes best.

    After SneakyPrompt, which gets past a filter: here the erasure is the filter. There, too, words are made
    of the tokenizer's parts, and a text encoder tells how much of the meaning is left; a small network
    chooses the parts while images are drawn, where here a greedy search is done before.

    References:
        | SneakyPrompt: Jailbreaking Text-to-Image Generative Models (Yang et al., 2023)
        | https://arxiv.org/abs/2305.12082

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        parts: Of how many parts a word is made.
        search: How words are found.
        looks: How many of them are drawn; with none, the likest is taken unseen.
        batch_size: Texts that are encoded at a time.
    """

    paper: ClassVar[str] = "2305.12082"

    parts: int = setting(least=1)
    search: Greedy

    @property
    def reads(self) -> frozenset[str]:
        """The anchor, whose words say nothing of the concept."""
        return frozenset({"anchor"})

    def guess(self, target: Target, prompts: PromptSet, generator: Generator) -> list[Guess]:
        """The prompts with the words that mean most nearly the same, for each of ``prompts``."""
        root = generator.initial_seed()
        likeness = Likeness(target, prompts, parts_of_words(target), self.batch_size)
        streams = [seeded(root, "words", index) for index in range(len(prompts))]
        keep = max(1, self.looks)
        hunts = minimise(self.search, likeness, len(likeness.parts), self.parts, streams, keep)
        return [guessed(own, partial(likeness.text, row), keep) for row, own in enumerate(hunts)]
