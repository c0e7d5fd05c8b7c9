"""Other words for the concept, found by looking at a few images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.hill_climb import HillClimb
from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.prompt_attack import PromptAttack
from unlearn.attacks.replaced_words import ReplacedWords


@dataclass(kw_only=True)
class SneakyPrompt(PromptAttack):
    """Replaces the words of the concept until its detector sees it, within a few images.

    After SneakyPrompt, which gets past a filter: here the erasure is the filter. The authors let a small
    network choose the words and are rewarded for the likeness to the plain prompt; here a word is changed at
    a time, and the detector's score is the reward, as for all attacks that look at images.

    References:
        | SneakyPrompt: Jailbreaking Text-to-Image Generative Models (Yang et al., 2023)
        | https://arxiv.org/abs/2305.12082

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        space: The words that replace a phrase.
        objective: The detector's score.
        search: How many candidates are looked at.
    """

    paper: ClassVar[str] = "2305.12082"

    space: ReplacedWords
    objective: DetectorScore
    search: HillClimb
