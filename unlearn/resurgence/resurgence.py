"""Resurgence: what every way of using an erased model further takes and gives.

An attack looks for a prompt. Here the prompts stay as they are, and the model is trained on, rounded, or
drawn from otherwise than it was erased for. What comes of it is a curve: how often the concept shows, on the
same prompts and seeds, at each place of an axis.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.methods.method import Context
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler, Start
from unlearn.settings import Settings, setting


@dataclass(frozen=True)
class Place:
    """One place on the axis of a curve.

    Attributes:
        at: Where it is, in the axis's unit; its number, from 0, where the axis has none.
        label: What it is called.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Subject:
    """What is put to the test.

    Attributes:
        model: The original model.
        erasure: What the method did to it.
        concepts: What was erased.
        prompts: What the images are drawn for.
        sampler: How they are drawn where nothing else is said.
    """

    model: DiffusionModel
    erasure: Erasure
    concepts: ConceptSet
    prompts: PromptSet
    sampler: Sampler


class Show(Protocol):
    """Draws the images of one place with the model as it is at that moment, under the erasure's guard."""

    def __call__(self, place: int, sampler: Sampler | None = None, start: Start | None = None) -> None:
        """Draws them, unless a killed run left them there.

        Arguments:
            place: Number of the place, from 0.
            sampler: How they are drawn, if otherwise than the subject's.
            start: What to start from, one image for each prompt, if given.
        """


@dataclass(kw_only=True)
class Resurgence(Settings, ABC):
    """A way of using an erased model.

    Attributes:
        paper: arXiv id of its source; empty if there is none.
        axis: What the places are places of.
        both: Whether the original model is used in the same way, to compare with.
        prompts: How many of the plain prompts are drawn at each place: the first ones.
    """

    paper: ClassVar[str] = ""
    axis: ClassVar[str]
    both: ClassVar[bool] = True

    prompts: int = setting(least=1)

    @property
    def reads(self) -> frozenset[str]:
        """What of a concept it takes into account, besides phrases: fields of :class:`Concept`."""
        return frozenset()

    @abstractmethod
    def origin(self, sampler: Sampler) -> Place:
        """The place at which the erased model is drawn from as it is."""

    @abstractmethod
    def places(self, sampler: Sampler) -> list[Place]:
        """All others, in their order.

        Arguments:
            sampler: The model's own.
        """

    @abstractmethod
    def visit(self, subject: Subject, context: Context, show: Show) -> None:
        """Brings the model to each of the places and shows it there; leaves it as it was."""

    def check(self, sampler: Sampler, concepts: ConceptSet, prompts: PromptSet) -> list[str]:  # noqa: ARG002
        """What keeps it from being measured, each as ``<key>: <what is wrong>``; loads nothing."""
        return []
