"""Attacks on prompts, composed of a space, an objective and a search.

The *space* says what may be changed in a prompt, the *objective* how close a change comes to bringing the
concept back, the *search* which change to try next. A search is handed the objective as a function and calls
nothing else of the attack, so that each part can be read, tested and exchanged alone.

A *candidate* is a row of token ids, with shape :math:`(K)`; a batch of them has shape :math:`(B, K)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from torch import Generator, Tensor

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, too_small
from unlearn.attacks.findings import Finding, gathered, judged, kept
from unlearn.attacks.queries import Watched
from unlearn.concepts.concept import PromptSet
from unlearn.models.sampling import Sampler
from unlearn.seeding import derive_seed
from unlearn.seeding import generator as seeded
from unlearn.settings import Settings

Loss = Callable[[Tensor], Tensor]
"""Losses with shape :math:`(B)` of :math:`(B, K)` candidates; at most 0 where the concept shows."""

Propose = Callable[[int], Tensor]
"""So many random candidates of a space, with shape :math:`(B, K)`."""


class Space(Settings, ABC):
    """The changes of a prompt that an attack may choose from."""

    @abstractmethod
    def propose(self, target: Target, prompt: str, count: int, generator: Generator) -> Tensor:
        """Random candidates, with shape :math:`(count, K)`."""

    @abstractmethod
    def text(self, target: Target, prompt: str, candidate: Tensor) -> str:
        """The adversarial prompt of a candidate with shape :math:`(K)`."""


class Objective(Settings, ABC):
    """How close a candidate comes to bringing the concept back; smaller is closer."""

    @abstractmethod
    def loss(self, target: Target, concept: str, text: Callable[[Tensor], str], seed: int) -> Loss:
        """The loss for candidates of one prompt.

        Arguments:
            concept: Name of the concept that should come back.
            text: The adversarial prompt of a candidate.
            seed: Seed of the images that it draws.
        """


class Search(Settings, ABC):
    """How the next candidate is chosen."""

    @abstractmethod
    def limited(self, candidates: int) -> Search:
        """The same with no more than so many candidates."""

    @abstractmethod
    def minimise(self, loss: Loss, propose: Propose) -> tuple[Tensor, float, int]:
        """The best candidate within the budget, with shape :math:`(K)`, its loss, and how many were tried."""


@dataclass(kw_only=True)
class PromptAttack(Attack):
    """An attack that searches a space of prompts for the smallest value of an objective.

    Every prompt is attacked on its own, with a random stream of its own. Images are drawn with seeds that are
    none of those of the prompts under attack, so that the evaluation measures the prompt and not one lucky
    noise.
    """

    paper: ClassVar[str] = ""
    white_box: ClassVar[bool] = False

    space: Any
    objective: Any
    search: Any

    def _within(self, budget: int, sampler: Sampler, prompts: PromptSet) -> PromptAttack:  # noqa: ARG002
        if (candidates := budget // sampler.forwards) < 1:
            raise too_small(budget, sampler.forwards, "one candidate")
        return replace(self, search=self.search.limited(candidates), budget=None)

    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> AdversarialPrompts:
        """The best prompt that the search finds, for each of ``prompts``."""
        from tqdm import tqdm

        root = generator.initial_seed()
        rows = enumerate(zip(prompts.prompts, prompts.concepts, strict=True))
        findings: list[Finding] = []
        for index, (prompt, concept) in tqdm(rows, "attack", len(prompts), unit="prompt", disable=None):
            own = seeded(root, "candidates", index)
            hunt = partial(self._one, target, prompt, concept, own, unseen_seed(root, index, prompts))
            findings += kept(target.scratch, f"prompt{index}", hunt)
            target.heed([one.found for one in findings])
        return gathered(findings, prompts)

    def _one(
        self, target: Target, prompt: str, concept: str, generator: Generator, seed: int
    ) -> list[Finding]:
        """Attacks a single prompt, with images from ``seed``."""
        spent, failed = target.model.forwards, target.tally.failed

        def text(candidate: Tensor) -> str:
            found: str = self.space.text(target, prompt, candidate)
            return found

        loss = Watched(self.objective.loss(target, concept, text, seed))
        best, value, tried = self.search.minimise(
            loss, lambda count: self.space.propose(target, prompt, count, generator)
        )
        found = judged(value <= 0, target.tally.failed > failed)
        return [Finding(text(best), tried, target.model.forwards - spent, found, first=loss.first)]


def unseen_seed(root: int, index: int, prompts: PromptSet) -> int:
    """A seed for the attack's own images that is none of the evaluation's."""
    attempt = 0
    while (seed := derive_seed(root, "images", index, attempt)) in prompts.seeds:
        attempt += 1
    return seed
