"""Metrics: what every metric takes and gives.

A metric says which images it needs, and turns them into one number that stands beside the original model's on
the same prompts and seeds. An item that could not be scored is missing: it is counted as failed and takes no
side.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.detectors.detector import Detector, ImageFeatures, ImageText, Network
from unlearn.detectors.reading import BROKEN, Failure, rows
from unlearn.errors import ConfigError, UnlearnError, unknown
from unlearn.settings import Settings
from unlearn.statistics.interval import Interval
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval
from unlearn.system.shortage import reason


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval, None where none can be given."""

    value: float
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """As in ``results.json``."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of a results table.

    Attributes:
        value: The erased model's number, in ``unit``; None where it is not defined, and ``warnings`` says
            why.
        unit: ``%`` for rates, else the name of the scale.
        n: Images (or prompts, or pairs of images) that it was taken over.
        expected: How many it should have been taken over.
        failed: How many could not be scored.
        interval: 95 % interval of ``value``, where one can be given.
        better: Which way is better for an erasure.
        version: Version of the metric's definition.
        original: The original model's number on the same prompts and seeds.
        difference: Erased minus original, paired by prompt and seed.
        per_image: What the metric says of each image, NaN where it failed, for the report.
        warnings: Whole sentences about what makes the number doubtful, without its name.
    """

    value: float | None
    unit: str
    n: int
    expected: int
    failed: int
    interval: Interval | None
    better: Literal["lower", "higher"]
    version: int
    original: Measured | None = None
    difference: Measured | None = None
    per_image: Mapping[ImageRequest, tuple[float, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The score's entry in ``results.json``."""
        return {
            "value": self.value,
            "unit": self.unit,
            "n": self.n,
            "expected": self.expected,
            "failed": self.failed,
            "interval": None if self.interval is None else list(self.interval),
            "better": self.better,
            "version": self.version,
            "original": None if self.original is None else self.original.to_json(),
            "difference": None if self.difference is None else self.difference.to_json(),
        }


@dataclass(frozen=True)
class Evidence:
    """What a metric may look at.

    What a network says of an image set is computed once and shared by all metrics.

    Attributes:
        concepts: What was erased.
        images: The images on disk.
        detectors: Detectors and feature networks by their key in ``eval.detectors``.
        failures: How many images of a set a network may fail on. One more fails the run.
        batch_size: Images read at a time; changes no number beyond rounding.
        unjudged: Positions that count as failed whatever a network says of their images: prompts for which
            an attack could not see whether it had found anything.
    """

    concepts: ConceptSet
    images: Mapping[ImageRequest, ImageSet]
    detectors: Mapping[str, Network]
    failures: int = 0
    batch_size: int = 64
    unjudged: Mapping[ImageRequest, Sequence[int]] = field(default_factory=dict)
    _seen: dict[tuple[str, ImageRequest], Tensor] = field(default_factory=dict, repr=False)

    def readout(self, key: str, request: ImageRequest) -> Tensor:
        """A detector's readout of each image, with shape :math:`(N, R)`; NaN where it failed."""
        network = self.detector(key)
        if isinstance(network, ImageText):
            return torch.nn.functional.normalize(self.features(key, request), dim=-1)
        return self._once(key, request, network.readout)

    def features(self, key: str, request: ImageRequest) -> Tensor:
        """The features of each image, with shape :math:`(N, D)`; NaN where the network failed."""
        network = self.network(key)
        if not isinstance(network, ImageFeatures):
            raise ConfigError(f"eval.detectors.{key}: gives no features, and a metric asks for some.")
        return self._once(key, request, network.features)

    def shown(
        self, request: ImageRequest, index: Sequence[int], detector: str, labels: Sequence[str]
    ) -> Tensor:
        """Whether images show any of ``labels``.

        Arguments:
            index: Which images of the set.

        Returns:
            1, 0, or NaN where the detector failed, with shape :math:`(len(index))`.

        Raises:
            UnlearnError: If the detector fails on more images than it may, or cannot decide.
        """
        readout = self.readout(detector, request)[list(index)]
        network = self.detector(detector)
        try:
            shown = torch.stack([network.decide(readout, label) for label in labels]).any(dim=0)
        except (
            BROKEN
        ) as error:  # a decision is taken for all images at once, so that none of them is to blame
            raise UnlearnError(
                f"eval.detectors.{detector}: cannot decide about {', '.join(labels)} ({reason(error)})."
            ) from error
        return shown.double().masked_fill(~readout.isfinite().all(dim=1), math.nan)

    def network(self, key: str) -> Network:
        """The detector or feature network with this key."""
        if key not in self.detectors:
            raise ConfigError(f"eval.detectors: {unknown('detector', key, self.detectors)}")
        return self.detectors[key]

    def detector(self, key: str) -> Detector:
        """The detector with this key."""
        network = self.network(key)
        if not isinstance(network, Detector):
            raise ConfigError(f"eval.detectors.{key}: decides nothing, and a concept or metric asks it to.")
        return network

    def _once(self, key: str, request: ImageRequest, network: Callable[[Tensor], Tensor]) -> Tensor:
        if (key, request) not in self._seen:
            self._seen[key, request] = self._read(key, request, network)
        return self._seen[key, request]

    def _read(self, key: str, request: ImageRequest, network: Callable[[Tensor], Tensor]) -> Tensor:
        """All rows of a network, in double precision, after the failures are counted."""
        seen: list[Tensor | Failure] = []
        for batch in self.images[request].batches(self.batch_size):
            seen += rows(network, batch)
            if failed := [i for i, row in enumerate(seen) if isinstance(row, Failure)]:
                self._bound(key, request, seen, failed)
        width = next((len(row) for row in seen if isinstance(row, Tensor)), 1)
        missing = torch.full((width,), math.nan).double()
        return torch.stack([row.double() if isinstance(row, Tensor) else missing for row in seen])

    def _bound(
        self, key: str, request: ImageRequest, seen: Sequence[Tensor | Failure], failed: Sequence[int]
    ) -> None:
        """Raises UnlearnError where more images failed than may."""
        if len(failed) > self.failures:
            first = seen[failed[0]]
            assert isinstance(first, Failure)
            raise UnlearnError(
                f"eval.detectors.{key}: failed on {len(failed)} of {len(self.images[request])} images of "
                f"{request}, first on {self.images[request].path(failed[0])} ({first.reason}); eval.failures "
                f"allows {self.failures}."
            )


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
    ) -> Score:
        """The score that is a mean over images; a rate in percent if ``unit`` is ``%``.

        Arguments:
            erased: What the metric says of each of the erased model's images, with shape :math:`(N)`; for a
                rate 0 or 1; NaN where it failed.
            original: The same for the original's images of the same prompts and seeds; None stands for zeros.
            prompts: The prompt of each image; images of one prompt are resampled together.
            per_image: For the report, by image set.
        """
        before = torch.zeros_like(erased) if original is None else original
        whole = erased.isfinite() & before.isfinite()
        kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
        if not kept:
            return self.undefined(unit, "no image could be scored.", expected=len(erased))
        after, before = erased[whole], before[whole]
        rate = unit == "%"
        factor = 100.0 if rate else 1.0
        interval = rate_interval if rate else mean_interval
        difference = (rate_difference_interval if rate else mean_interval)(after - before, kept)
        return Score(
            value=factor * after.mean().item(),
            unit=unit,
            n=len(kept),
            expected=len(erased),
            failed=len(erased) - len(kept),
            interval=_scaled(interval(after, kept), factor),
            better=self.better,
            version=self.version,
            original=Measured(factor * before.mean().item(), _scaled(interval(before, kept), factor)),
            difference=Measured(factor * (after - before).mean().item(), _scaled(difference, factor)),
            per_image={request: tuple(values.tolist()) for request, values in per_image.items()},
            warnings=warnings,
        )


def _scaled(interval: Interval | None, factor: float) -> Interval | None:
    return None if interval is None else (factor * interval[0], factor * interval[1])


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
