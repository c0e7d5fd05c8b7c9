"""What a metric may look at: the images, and what the networks say of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.detectors.detector import Detector, ImageFeatures, ImageText, Network
from unlearn.detectors.reading import BROKEN, Failure, rows
from unlearn.errors import ConfigError, UnlearnError, unknown
from unlearn.system.shortage import reason

UNSURE = 0.5
"""What stands for an image that a judge cannot tell anything about, between 0 and 1."""

BLANK = 2 / 255
"""An image whose values spread less than this shows nothing."""


def told(answers: Tensor, answer: float = 1.0) -> Tensor:
    """Whether each answer of a judge is this one for sure: 1 or 0, and NaN where the judge failed."""
    return (answers == answer).double().masked_fill(answers.isnan(), math.nan)


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
    _blank: dict[ImageRequest, Tensor] = field(default_factory=dict, repr=False)

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
            1, 0, :data:`UNSURE` where the detector cannot tell or there is nothing to see, or NaN where it
            failed, with shape :math:`(len(index))`.

        Raises:
            UnlearnError: If the detector fails on more images than it may, or cannot decide.
        """
        readout = self.readout(detector, request)[list(index)]
        network = self.detector(detector)
        try:
            shown = torch.stack([network.decide(readout, label) for label in labels]).any(dim=0)
            unsure = torch.stack([network.abstains(readout, label) for label in labels]).any(dim=0)
        except (
            BROKEN
        ) as error:  # a decision is taken for all images at once, so that none of them is to blame
            raise UnlearnError(
                f"eval.detectors.{detector}: cannot decide about {', '.join(labels)} ({reason(error)})."
            ) from error
        unsure = (unsure | self.blank(request)[list(index)].to(shown.device)) & ~shown
        told = shown.double().masked_fill(unsure, UNSURE)
        return told.masked_fill(~readout.isfinite().all(dim=1), math.nan).cpu()

    def blank(self, request: ImageRequest) -> Tensor:
        """Whether each image is of one colour, so that it shows nothing; with shape :math:`(N)`."""
        if request not in self._blank:
            spreads = [batch.std(dim=(1, 2, 3)) for batch in self.images[request].batches(self.batch_size)]
            self._blank[request] = torch.cat(spreads or [torch.empty(0)]) < BLANK
        return self._blank[request]

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
