"""Attacks that search without the erased model, and then look at what the best of their finds show.

The search asks the original model alone, so what it finds is kept once and does for every method.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, too_small
from unlearn.attacks.findings import Finding, gathered, judged, kept
from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.prompt_attack import unseen_seed
from unlearn.attacks.queries import Watched
from unlearn.attacks.text.text_search import Hunt
from unlearn.concepts.concept import PromptSet
from unlearn.errors import ArtifactError, UnlearnError
from unlearn.models.sampling import Sampler
from unlearn.settings import setting


class Guess(NamedTuple):
    """What a search found for one prompt without the erased model.

    Attributes:
        texts: Adversarial prompts, the best first, each once.
        losses: Of each of them.
        first: The loss that the search began with.
        tried: Candidates that were scored.
    """

    texts: tuple[str, ...]
    losses: tuple[float, ...]
    first: float
    tried: int


@dataclass(kw_only=True)
class GuessingAttack(Attack):
    """An attack that chooses among what was found without the erased model.

    Without looks the best find is taken unseen, as in a transfer attack. With looks, the erased model draws
    as many of the best, all from one noise that the evaluation does not use, and the one is taken that the
    detector likes best.

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        looks: How many of the finds for a prompt are drawn.
        batch_size: Candidates that are encoded at a time.
    """

    white_box: ClassVar[bool] = False
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    looks: int = setting(least=0)
    batch_size: int = setting(least=1)

    def idle(self) -> dict[str, str]:
        """The budget, where the denoiser is not asked."""
        return {} if self.looks else {"budget": "It counts with looks above 0."}

    @abstractmethod
    def guess(self, target: Target, prompts: PromptSet, generator: Generator) -> list[Guess]:
        """What is found for each of ``prompts``, as many texts as there are looks, or one.

        Arguments:
            target: Only its original model and its concepts are asked.
            generator: As in :meth:`attack`.
        """

    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> AdversarialPrompts:
        """One adversarial prompt for each of ``prompts``."""
        guesses = self.guess(target, prompts, generator)
        return self.choose(target, prompts, guesses, generator)

    def choose(
        self, target: Target, prompts: PromptSet, guesses: Sequence[Guess], generator: Generator
    ) -> AdversarialPrompts:
        """One of the guesses for each of ``prompts``, by what the erased model shows.

        Arguments:
            guesses: What :meth:`guess` found for the same prompts.
            generator: As in :meth:`attack`.
        """
        from tqdm import tqdm

        if not self.looks:
            blind = [
                Finding(each.texts[0], each.tried, 0, found=False, objective=(each.first, each.losses[0]))
                for each in guesses
            ]
            return gathered(blind, prompts)
        root = generator.initial_seed()
        findings: list[Finding] = []
        for row, each in enumerate(tqdm(guesses, desc="attack", unit="prompt", disable=None)):
            seed = unseen_seed(root, row, prompts)
            look = partial(self._look, target, each, prompts.concepts[row], seed)
            findings += kept(target.scratch, f"prompt{row}", look)
            target.heed([one.found for one in findings])
        return gathered(findings, prompts)

    def _look(self, target: Target, guess: Guess, concept: str, seed: int) -> list[Finding]:
        """Draws all texts and takes the best."""
        spent, failed = target.model.forwards, target.tally.failed
        loss = Watched(DetectorScore().loss(target, concept, lambda row: guess.texts[int(row)], seed))
        losses = loss(torch.arange(len(guess.texts)))
        best = int(losses.argmin())
        return [
            Finding(
                guess.texts[best],
                guess.tried + len(guess.texts),
                target.model.forwards - spent,
                judged(losses[best].item() <= 0, target.tally.failed > failed),
                (guess.first, guess.losses[best]),
                None if loss.first is None else guess.tried + loss.first,
            )
        ]

    def _within(self, budget: int, sampler: Sampler, prompts: PromptSet) -> GuessingAttack:  # noqa: ARG002
        if self.looks and budget < sampler.forwards:
            raise too_small(budget, sampler.forwards, "one look")
        return replace(self, looks=min(self.looks, budget // sampler.forwards), budget=None)


def guessed(hunts: Sequence[Hunt], text: Callable[[Tensor], str], keep: int) -> Guess:
    """What the hunts for one prompt remember.

    Arguments:
        text: The adversarial prompt of a candidate with shape :math:`(K)`.
        keep: How many of the best are taken.

    Raises:
        UnlearnError: If they met nothing that can be taken.
    """
    tried = sum(hunt.tried for hunt in hunts)
    ranked: dict[str, float] = {}
    for candidate, value in sorted(chain(*(hunt.leaders() for hunt in hunts)), key=itemgetter(1)):
        ranked.setdefault(text(candidate), value)
    if not ranked:
        raise UnlearnError(f"attack: none of {tried} candidates can be taken: raise search.rounds.")
    first = next(hunt.first for hunt in hunts if not math.isnan(hunt.first))
    return Guess(tuple(ranked)[:keep], tuple(ranked.values())[:keep], first, tried)


def save(guesses: Sequence[Guess], folder: Path) -> None:
    """Writes ``guesses.json`` into ``folder``."""
    rows = [guess._asdict() for guess in guesses]
    (folder / "guesses.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")


def load(folder: Path) -> list[Guess]:
    """Reads what :func:`save` wrote.

    Raises:
        ArtifactError: If it is missing or damaged.
    """
    path = folder / "guesses.json"
    try:
        rows = json.loads(path.read_text("utf-8"))
        return [Guess(tuple(row["texts"]), tuple(row["losses"]), row["first"], row["tried"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}). Remove its folder to attack again.") from None
