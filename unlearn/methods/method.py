"""Erasure methods: what every method takes and gives."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator, Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError, IncompatibleError, UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.maps import chained
from unlearn.models.weights.parameters import Selection
from unlearn.seeding import derive_seed, generator
from unlearn.settings import Settings


class Meter:
    """What an erasure has cost so far; one that was interrupted counts all its parts, and nothing twice."""

    def __init__(self, model: DiffusionModel) -> None:
        self._model = model
        self._seconds = -time.perf_counter()
        self._forwards = -model.forwards

    def read(self) -> dict[str, float]:
        """``seconds`` of wall-clock time, and ``forwards``, the denoiser's evaluations counted in samples."""
        return {
            "seconds": self._seconds + time.perf_counter(),
            "forwards": self._forwards + self._model.forwards,
        }

    def catch_up(self, reading: Mapping[str, float]) -> None:
        """Goes on from an earlier part's reading, unless this part has come further."""
        now = self.read()
        self._seconds += max(0.0, reading["seconds"] - now["seconds"])
        self._forwards += max(0, int(reading["forwards"] - now["forwards"]))


@dataclass(frozen=True)
class Context:
    """What a method may use besides the model and the concepts.

    Attributes:
        seed: Root of all randomness.
        scratch: An existing folder for unfinished work, kept until the erasure is whole.
        log: Takes named values and the step that they belong to.
        progress: Whether long work shows a progress bar on stderr.
        meter: Counts what the work costs. Whoever leaves unfinished work in ``scratch`` leaves a reading with
            it, and catches up with that when it goes on.
    """

    seed: int
    scratch: Path
    log: Callable[[dict[str, float], int], None]
    progress: bool
    meter: Meter

    def generator(self, *scope: str | int) -> Generator:
        """A CPU generator for one named use of randomness."""
        return generator(self.seed, *scope)

    def derive_seed(self, *scope: str | int) -> int:
        """The seed of one named use of randomness."""
        return derive_seed(self.seed, *scope)


class Method(Settings, ABC):
    """One way of making a model unable to draw a concept.

    A method is a dataclass: its fields are its hyperparameters, with their values in ``conf/method``.

    Attributes:
        paper: Its arXiv id; empty if there is none.
        requires: What it needs of a model, out of ``DiffusionModel.features``.
        continues: Whether it can erase from a model that something was erased from before. What acts while
            sampling cannot: a model has one guard.
        differentiable: Whether gradients go through the guard that it leaves, if it leaves one.
        random: Whether it draws on the seed of the erasure.
    """

    paper: ClassVar[str]
    requires: ClassVar[frozenset[str]] = frozenset()
    continues: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    random: ClassVar[bool] = True

    @property
    def reads(self) -> frozenset[str]:
        """What of a concept it takes into account, besides phrases: fields of :class:`Concept`."""
        return frozenset({"anchor", "retain", "templates"})

    def idle(self, concepts: ConceptSet) -> dict[str, str]:  # noqa: ARG002
        """Settings that change nothing beside the others: by key, when they would."""
        return {}

    @abstractmethod
    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Finds what to change so that ``concepts`` are gone; leaves ``model`` as it was.

        Raises:
            IncompatibleError: If the model lacks what the method requires.
            ConfigError: If concepts or hyperparameters contradict each other, before any weight changes.
            UnlearnError: If the erasure fails or changes nothing.
        """

    def continued(
        self, model: DiffusionModel, concepts: ConceptSet, context: Context, before: Erasure
    ) -> Erasure:
        """Erases ``concepts``, too, from what an earlier erasure left; leaves ``model`` as it was.

        What the method takes for the original model is by default the one that ``before`` left.

        Arguments:
            model: The original model.
            concepts: What to erase now; :attr:`ConceptSet.earlier` is what ``before`` did away with.
            before: All that was done to the original model so far.

        Returns:
            What both did to the original model, with the history of the later one.

        Raises:
            IncompatibleError: If one of the two acts while sampling.
        """
        with model.erased(before):
            after = self.erase(model, concepts, context)
        return chained(model, before, after)

    def check(self, model: DiffusionModel, concepts: ConceptSet) -> None:
        """Finds what would make :meth:`erase` fail or do something that nobody can want.

        Raises:
            IncompatibleError: If the model lacks what the method requires.
            ConfigError: If a concept is to be retained or is an anchor although it is to be erased.
        """
        missing = self.requires - model.features
        if missing:
            raise IncompatibleError(
                f"method: {type(self).__name__} requires {', '.join(sorted(missing))}, "
                f"which {type(model).__name__} does not have."
            )
        erased = {_plain(phrase) for phrase in concepts.phrases}
        for name, concept in concepts.erase.items():
            where = "concept" if len(concepts.erase) == 1 else f"concept.worlds.<world>.erase.{name}"
            if _plain(concept.anchor) in erased:
                raise ConfigError(
                    f"{where}.anchor: must be something that stays, got '{concept.anchor}', which is erased."
                )
            own = {_plain(phrase) for phrase in concept.phrases}
            both = [phrase for phrase in concept.retain if _plain(phrase) in own]
            if both:
                raise ConfigError(f"{where}.retain: must not hold what is erased, got '{both[0]}'.")


def finished(selection: Selection, history: list[dict[str, float]], matrix: Tensor | None = None) -> Erasure:
    """What the method did to the selected parameters.

    Arguments:
        matrix: The map that edited them all, with shape :math:`(d, d)`, if one did.

    Raises:
        UnlearnError: If no weight changed, or one is not finite.
    """
    weights = selection.changed()
    if not weights:
        raise UnlearnError(
            "method: the erasure changed no weight. Its scales or learning rate are too small."
        )
    broken = [name for name, weight in weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise UnlearnError(f"method: {len(broken)} edited weights are not finite, such as {broken[0]}.")
    return Erasure(weights=weights, history=history, map=matrix)


def of_other_kinds(key: str, table: Iterable[str], concepts: ConceptSet) -> dict[str, str]:
    """The entries of a table by kind of concept that no concept asks for, as :meth:`Method.idle` has them."""
    kinds = {concept.kind for concept in concepts.erase.values()}
    return {
        f"{key}.{kind}": f"It counts for concepts of the kind '{kind}'."
        for kind in table
        if kind not in kinds
    }


def without_retained(keys: Iterable[str], retained: Sequence[str]) -> dict[str, str]:
    """Settings that weigh what is retained, where nothing is, as :meth:`Method.idle` has them."""
    return {} if retained else dict.fromkeys(keys, "It counts where something is retained.")


def _plain(text: str) -> str:
    """A phrase as the tokenizer sees it: case and outer blanks do not count."""
    return " ".join(text.lower().split())
