"""Metrics: what every metric takes and gives.

A metric says which images it needs, and turns them into one number that stands beside the original model's on
the same prompts and seeds. An item that could not be scored is missing: it is counted as failed and takes no
side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import Network
from unlearn.detectors.errors import Errors
from unlearn.errors import UnlearnError, unknown
from unlearn.metrics import means
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.score import Score
from unlearn.settings import Settings


class Metric(Settings, ABC):
    """Turns generated images into one number."""

    better: ClassVar[Literal["lower", "higher"]]
    version: ClassVar[int] = 1

    @abstractmethod
    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:
        """The images to draw before :meth:`score` is called.

        Arguments:
            attacks: Names of the attacks of this run.
        """

    @abstractmethod
    def score(self, evidence: Evidence) -> Score:
        """The value of the metric."""

    def by_attack(self, attacks: Sequence[str]) -> dict[str, Metric]:  # noqa: ARG002
        """The metrics that this one stands for, by what is put behind its name."""
        return {"": self}

    def part(self, score: Score, evidence: Evidence, concepts: Sequence[str]) -> Score | None:  # noqa: ARG002
        """The same over the prompts of some concepts alone; None if it is no mean over single images.

        Arguments:
            score: What :meth:`score` found.
            concepts: Names of concepts.
        """
        return None

    def idle(self) -> dict[str, str]:
        """Settings that change nothing beside the others: by key, when they would."""
        return {}

    def check(self, detectors: Mapping[str, Network]) -> list[str]:  # noqa: ARG002
        """What keeps it from being taken, each as ``<key>: <what is wrong>``; loads nothing."""
        return []

    def undefined(self, unit: str, reason: str, expected: int = 0) -> Score:
        """A score without a value."""
        return Score(
            value=None, unit=unit, n=0, expected=expected, failed=0, interval=None,
            better=self.better, version=self.version, warnings=(reason,),
        )  # fmt: skip

    def mean_score(
        self,
        erased: Tensor,
        original: Tensor | None,
        prompts: Sequence[str],
        unit: str,
        per_image: Mapping[ImageRequest, Tensor],
        warnings: tuple[str, ...] = (),
        errors: Errors | None = None,
        margin: float | None = None,
    ) -> Score:
        """The score that is a mean over images; a rate in percent if ``unit`` is ``%``.

        Arguments:
            erased: What the metric says of each of the erased model's images, with shape :math:`(N)`; for a
                rate 0, 1 or :data:`UNSURE`; NaN where it failed.
            original: The same for the original's images of the same prompts and seeds; None stands for zeros.
            prompts: The prompt of each image; images of one prompt are alike.
            per_image: For the report, by image set.
            errors: Of a rate: how often its judge errs, if that is known.
            margin: How far from the original's the number may be to be called equivalent, in ``unit``.
        """
        before = torch.zeros_like(erased) if original is None else original
        whole = erased.isfinite() & before.isfinite()
        kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
        if not kept:
            return self.undefined(unit, "no image could be scored.", expected=len(erased))
        after, before = erased[whole], before[whole]
        found = (
            means.of_answers(after, before, kept, errors, margin)
            if unit == "%"
            else means.of_numbers(after, before, kept, unit, margin)
        )
        return Score(
            unit=unit,
            n=len(kept),
            prompts=len(set(kept)),
            expected=len(erased),
            failed=len(erased) - len(kept),
            better=self.better,
            version=self.version,
            per_image={request: tuple(values.tolist()) for request, values in per_image.items()},
            warnings=warnings,
            **found,
        )


def pair(role: str) -> tuple[ImageRequest, ImageRequest]:
    """The erased and the original model's images of one role."""
    return ImageRequest(role, "erased"), ImageRequest(role, "original")


def prompts_of(evidence: Evidence, role: str) -> PromptSet:
    """The prompts of a role, which must be the same for both models."""
    erased, original = pair(role)
    prompts = evidence.images[erased].prompts
    if prompts.fingerprint() != evidence.images[original].prompts.fingerprint():
        raise UnlearnError(f"{role}: the two models were given other prompts or seeds.")
    return prompts


def check_network(field: str, key: str, detectors: Mapping[str, Network], kind: type[Network]) -> list[str]:
    """The problem, if any, with a metric's ``field`` that names a network of this ``kind``."""
    if key not in detectors:
        return [f"{field}: {unknown('detector', key, detectors)}"]
    if not isinstance(detectors[key], kind):
        fitting = [name for name, network in detectors.items() if isinstance(network, kind)]
        return [f"{field}: '{key}' does not serve here. Those that do: {', '.join(fitting) or 'none'}."]
    return []
