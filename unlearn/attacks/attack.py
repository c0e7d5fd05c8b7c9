"""Adversarial prompts: what every attack takes and gives.

An attack works on the erased model and gives prompts, nothing else. Whether they bring the concept back is
measured later, on images whose seeds the attack has not seen, by the code that draws and scores all other
images.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator, Tensor

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.detectors.detector import Detector
from unlearn.detectors.reading import Failure, rows
from unlearn.errors import ArtifactError, ConfigError, IncompatibleError, UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler, draw
from unlearn.settings import Settings, setting

#: Images without the concept from which on there is nothing to aim at.
ENOUGH = 8


@dataclass(frozen=True)
class AdversarialPrompts:
    """What an attack found, one entry for each prompt under attack.

    Attributes:
        prompts: The adversarial prompts, with the seeds of the prompts that they were made from: the attack
            has not seen these.
        plain: The prompts that they were made from.
        queries: Candidates that were tried for each.
        forwards: Denoiser forwards, counted in samples, that were spent on each.
        found: Whether the attack's own images showed the concept; None where the detector failed on any of
            them and the others did not show it, so that nobody knows.
        objective: What the attack minimises, on the same draws for its start and for what it gives, for each
            prompt; None where it minimises nothing but what images show, and empty if that goes for all.
        first: How many candidates it took for each until one showed the concept; None where none did, and
            empty if that goes for all, or if candidates are not looked at one after another.
    """

    prompts: PromptSet
    plain: tuple[str, ...]
    queries: tuple[int, ...]
    forwards: tuple[int, ...]
    found: tuple[bool | None, ...]
    objective: tuple[tuple[float, float] | None, ...] = ()
    first: tuple[int | None, ...] = ()

    @property
    def unjudged(self) -> list[int]:
        """Positions of the prompts of which nobody knows whether the attack found anything."""
        return [i for i, one in enumerate(self.found) if one is None]

    def save(self, folder: Path) -> None:
        """Writes ``attack.json`` into ``folder``."""
        (folder / "attack.json").write_text(
            json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8"
        )

    @staticmethod
    def load(folder: Path) -> AdversarialPrompts:
        """Reads what :meth:`save` wrote.

        Raises:
            ArtifactError: If it is missing or damaged.
        """
        path = folder / "attack.json"
        try:
            found = json.loads(path.read_text("utf-8"))
            name = found["prompts"].pop("name")
            prompts = PromptSet(name, **{key: tuple(value) for key, value in found.pop("prompts").items()})
            pairs = tuple(each and (each[0], each[1]) for each in found.pop("objective", ()))
            rest = {key: tuple(value) for key, value in found.items()}
            return AdversarialPrompts(prompts, **rest, objective=pairs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{path}: cannot be read ({error}). Remove its folder to attack again."
            ) from None


@dataclass
class Tally:
    """On how many images the detectors of an attack failed.

    Attributes:
        judged: Images of which they said something.
        failed: Images on which they failed.
        first: Why they failed first.
    """

    judged: int = 0
    failed: int = 0
    first: str = ""

    def add(self, judged: int, failed: Sequence[str]) -> None:
        """Counts some more, with the reasons of those that failed."""
        self.judged += judged
        self.failed += len(failed)
        self.first = self.first or next(iter(failed), "")


@dataclass(frozen=True)
class Target:
    """What an attack attacks: a model, what a method did to it, and who judges.

    Attributes:
        model: The original model.
        erasure: What the method changed.
        concepts: What was erased.
        detectors: Detector of each concept, by the concept's name.
        sampler: How images are drawn.
        scratch: An existing folder for unfinished work, which a killed attack goes on with; None keeps none.
        failures: For how many prompts the detectors may fail. One more ends the attack.
        tally: On how many images they failed so far.
    """

    model: DiffusionModel
    erasure: Erasure
    concepts: ConceptSet
    detectors: dict[str, Detector]
    sampler: Sampler
    scratch: Path | None = None
    failures: int = 0
    tally: Tally = field(default_factory=Tally, repr=False)

    @contextmanager
    def erased(self) -> Iterator[DiffusionModel]:
        """The erased model, while the block lasts."""
        with self.model.erased(self.erasure) as model:
            yield model

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """The erased model's images, with shape :math:`(B, 3, H, W)` and values in :math:`[0, 1]`."""
        with self.erased() as model:
            return torch.cat(list(draw(model, prompts, seeds, self.sampler, guard=self.erasure.guard)))

    def open_to(self, attack: Attack) -> None:
        """Raises IncompatibleError if an attack needs gradients where the method gives none."""
        guard = self.erasure.guard
        if guard is not None and not (attack.through_guards and guard.differentiable):
            raise IncompatibleError(
                f"eval.attacks: {type(attack).__name__} needs gradients, and this method acts while images "
                "are drawn, where it gets none. Attack it without (random_tokens, sneaky, ringabell, mma)."
            )

    def judge(self, images: Tensor, concept: str) -> tuple[Tensor, Tensor]:
        """What a concept's detector says of images.

        Returns:
            Whether each shows the concept, and the highest probability among its labels, each with shape
            :math:`(B)` and on the CPU; False and NaN where the detector failed.

        Raises:
            UnlearnError: If it failed and no failure is allowed.
        """
        detector, labels = self.detectors[concept], self.concepts.erase[concept].labels

        def verdict(batch: Tensor) -> Tensor:
            readout = detector.readout(batch)
            shown = torch.stack([detector.decide(readout, label) for label in labels]).any(dim=0)
            highest = torch.stack([detector.probability(readout, label) for label in labels]).amax(dim=0)
            whole = readout.isfinite().all(dim=1)
            return torch.stack([shown.to(highest), highest], dim=1).masked_fill(~whole[:, None], math.nan)

        found = rows(verdict, images)
        failed = [row.reason for row in found if isinstance(row, Failure)]
        self.tally.add(len(found) - len(failed), failed)
        if failed and not self.failures:
            raise UnlearnError(
                f"eval.detectors.{self.concepts.erase[concept].detector}: failed on {self.tally.failed} of "
                f"the {self.tally.failed + self.tally.judged} images that the attack looked at "
                f"({self.tally.first}); eval.failures allows 0."
            )
        missing = torch.tensor([0.0, math.nan])
        table = torch.stack([row if isinstance(row, Tensor) else missing.to(images) for row in found]).cpu()
        return table[:, 0].bool(), table[:, 1]

    def sees(self, image: Tensor, concept: str) -> bool | None:
        """Whether one image, with shape :math:`(3, H, W)`, shows a concept; None if the detector failed."""
        shown, probability = self.judge(image[None], concept)
        return None if bool(probability.isnan()) else bool(shown)

    def heed(self, found: Sequence[bool | None]) -> None:
        """Ends the attack where the detectors failed for more of the prompts so far than may, see
        :func:`bounded`.
        """
        bounded(found, self.failures, f" ({self.tally.first})" if self.tally.first else "")


@dataclass(kw_only=True)
class Attack(Settings, ABC):
    """Looks for prompts under which an erased concept comes back.

    Attributes:
        paper: arXiv id of its source; empty for a control.
        white_box: Whether it looks into the model.
        control: Whether it is what other attacks have to beat.
        through_guards: Whether it takes gradients through guards that let them, where others need weights.
        own_seeds: Whether it says with which seeds its images are drawn.
        random: Whether it draws on the seed of the attacks.
        prompts: How many of the plain prompts it is tried on: the first ones.
        budget: Denoiser forwards, counted in samples, that it may spend on each prompt, so that attacks
            compare at equal cost; None for no bound. The extra branches of a guard are not counted.
    """

    paper: ClassVar[str]
    white_box: ClassVar[bool]
    control: ClassVar[bool] = False
    through_guards: ClassVar[bool] = False
    own_seeds: ClassVar[bool] = False
    random: ClassVar[bool] = True

    prompts: int = setting(least=1)
    budget: int | None = setting(default=None, least=1, unit="forwards for each prompt")

    @property
    def reads(self) -> frozenset[str]:
        """What of a concept it takes into account, besides phrases: fields of :class:`Concept`."""
        return frozenset()

    def idle(self) -> dict[str, str]:
        """Settings that change nothing beside the others: by key, when they would."""
        return {}

    @property
    def files(self) -> list[Path]:
        """The user's files that it reads: what it gives depends on what is in them."""
        return []

    def check(self, concepts: ConceptSet) -> list[str]:  # noqa: ARG002
        """What is wrong with its files, each as ``<key>: <what is wrong>``."""
        return []

    def chosen(self, plain: PromptSet) -> PromptSet:
        """The plain prompts that it is tried on, which are the first ones."""
        return plain.limited(self.prompts)

    def bounded(self, sampler: Sampler, prompts: PromptSet) -> Attack:
        """The same attack with no more to do than its budget allows; it keeps a budget that it heeds prompt
        by prompt, since what it does depends on what it sees.

        Arguments:
            prompts: What it will be tried on.

        Raises:
            ConfigError: If the budget does not do for its least step; says how much does.
        """
        return self if self.budget is None else self._within(self.budget, sampler, prompts)

    def _within(self, budget: int, sampler: Sampler, prompts: PromptSet) -> Attack:  # noqa: ARG002
        """As :meth:`bounded`, for a budget that there is; here for attacks that ask no denoiser."""
        return replace(self, budget=None)

    @abstractmethod
    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> AdversarialPrompts:
        """One adversarial prompt for each of ``prompts``.

        Arguments:
            prompts: Their seeds are kept for the evaluation; an attack draws with others.
            generator: All of its randomness.
        """


def too_small(budget: int, needed: int, step: str) -> ConfigError:
    """What to raise where a budget does not do for the least step of an attack."""
    return ConfigError(f"budget: {step} takes {needed} denoiser forwards, got {budget}.")


def bounded(found: Sequence[bool | None], allowed: int, why: str = "") -> None:
    """Raises UnlearnError where the detectors failed for more prompts than may.

    Arguments:
        found: As in :class:`AdversarialPrompts`, of the prompts that were attacked so far.
        why: Why they failed, as part of the sentence.
    """
    if (failed := sum(one is None for one in found)) > allowed:
        raise UnlearnError(
            f"attack: the detector failed on images of {failed} of {len(found)} prompts{why}; eval.failures "
            f"allows {allowed}."
        )


def aimed(concept: str, shown: Sequence[bool | None], key: str) -> None:
    """Whether images of a concept were drawn to aim at.

    Arguments:
        shown: Whether each of the original model's images shows it; None where the detector failed.
        key: The setting that says how many there are.

    Raises:
        UnlearnError: If there are enough, and the detector failed on all of them.
        IncompatibleError: If enough could be judged, and none shows it.
    """
    judged = [one for one in shown if one is not None]
    if not judged and len(shown) >= ENOUGH:
        raise UnlearnError(
            f"attack: the detector failed on all {len(shown)} images that the original model drew of "
            f"{concept}. Look at eval.detectors."
        )
    if not any(judged) and len(judged) >= ENOUGH:
        raise IncompatibleError(
            f"attack: none of {len(judged)} images that the original model drew for it shows {concept}, so "
            "there is nothing to aim at. Look at what the model draws for the plain prompts, and at the "
            f"detector; or raise the attack's {key}."
        )
