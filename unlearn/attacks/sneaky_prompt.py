"""Made-up words for the concept, chosen by looking at a few images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Generator

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, too_small
from unlearn.attacks.findings import Finding, gathered, kept
from unlearn.attacks.greedy import Greedy
from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.prompt_attack import unseen_seed
from unlearn.attacks.replaced_words import Likeness, parts_of_words
from unlearn.attacks.text_search import minimise
from unlearn.concepts import PromptSet
from unlearn.models.sampling import Sampler
from unlearn.seeding import generator as seeded


@dataclass(kw_only=True)
class SneakyPrompt(Attack):
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
        looks: How many of them are drawn.
        batch_size: Texts that are encoded at a time.
    """

    paper: ClassVar[str] = "2305.12082"
    white_box: ClassVar[bool] = False
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    parts: int
    search: Greedy
    looks: int
    batch_size: int

    def __post_init__(self) -> None:
        for key in ("prompts", "parts", "looks", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, got {getattr(self, key)}")

    def _within(self, budget: int, sampler: Sampler) -> SneakyPrompt:
        if (looks := min(self.looks, budget // sampler.forwards)) < 1:
            raise too_small(budget, sampler.forwards, "one look")
        return replace(self, looks=looks, budget=None)

    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> AdversarialPrompts:
        """One adversarial prompt for each of ``prompts``."""
        from tqdm import tqdm

        root = generator.initial_seed()
        likeness = Likeness(target, prompts, parts_of_words(target), self.batch_size)
        streams = [seeded(root, "words", index) for index in range(len(prompts))]
        hunts = minimise(self.search, likeness, len(likeness.parts), self.parts, streams, keep=self.looks)
        findings: list[Finding] = []
        for row, hunt in enumerate(tqdm(hunts, desc="attack", unit="prompt", disable=None)):
            texts = list(dict.fromkeys(likeness.text(row, each) for each in hunt.leaders()))
            look = partial(
                self._look, target, texts, prompts.concepts[row], unseen_seed(root, row, prompts), hunt.tried
            )
            findings += kept(target.scratch, f"prompt{row}", look)
        return gathered(findings, prompts)

    def _look(self, target: Target, texts: list[str], concept: str, seed: int, tried: int) -> list[Finding]:
        """Draws all texts and takes the best; ``tried`` words were told to the text encoder before."""
        spent = target.model.forwards
        loss = DetectorScore().loss(target, concept, lambda row: texts[int(row)], seed)
        losses = loss(torch.arange(len(texts)))
        best = int(losses.argmin())
        forwards = target.model.forwards - spent
        return [Finding(texts[best], tried + len(texts), forwards, losses[best].item() <= 0)]
