"""Networks that say what an image shows, and networks that say how alike images are.

A detector is a dataclass of settings. Its network loads on first use and is kept, so that settings can be
built, compared and printed without a weight. What the network says of an image (its *readout*) is apart from
the decision that is taken from it: a readout is computed once an image, and any number of labels and
thresholds are applied to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlearn.detectors.errors import Errors
from unlearn.errors import ConfigError
from unlearn.settings import Settings


class Network(Settings):
    """What stands in ``eval.detectors``."""

    @property
    def files(self) -> list[Path]:
        """The files that its numbers come from: what it says depends on what is in them."""
        return []

    def check(self) -> list[str]:
        """What keeps it from being used, each as ``<key>: <what is wrong>``; loads nothing."""
        return []


class Detector(Network, ABC):
    """Tells whether an image shows a label.

    Attributes:
        labels: What it can tell.
        threshold: Probability from which a label counts as shown.
    """

    version: ClassVar[str] = "1"

    labels: tuple[str, ...]
    threshold: float = 0.5

    @abstractmethod
    def scores(self, images: Tensor) -> Tensor:
        """How strongly each label shows.

        Arguments:
            images: With shape :math:`(B, 3, H, W)` and values in :math:`[0, 1]`.

        Returns:
            Values in :math:`[0, 1]` with shape :math:`(B, K)`, one for each of ``labels``; differentiable
            where the network is.
        """

    def readout(self, images: Tensor) -> Tensor:
        """All that decisions are taken from, with shape :math:`(B, R)`; by default the scores."""
        return self.scores(images)

    def probability(self, readout: Tensor, label: str) -> Tensor:
        """How strongly ``label`` shows, in :math:`[0, 1]` with shape :math:`(B)`."""
        return readout[:, self.labels.index(label)]

    def decide(self, readout: Tensor, label: str) -> Tensor:
        """Whether ``label`` shows, as booleans with shape :math:`(B)`."""
        return self.probability(readout, label) >= self.threshold

    def abstains(self, readout: Tensor, label: str) -> Tensor:  # noqa: ARG002
        """Whether it cannot tell if ``label`` shows, as booleans with shape :math:`(B)`; by default never."""
        return torch.zeros(len(readout), dtype=torch.bool, device=readout.device)

    def errors(self, label: str) -> Errors | None:  # noqa: ARG002
        """How often it errs about ``label``; None if that was not measured."""
        return None

    def knows(self, label: str) -> bool:
        """Whether it can tell ``label``."""
        return label in self.labels

    def shows(self, images: Tensor, label: str) -> Tensor:
        """Whether each image shows ``label``, as booleans with shape :math:`(B)`."""
        return self.decide(self.readout(images), label)


class ImageFeatures(Network, ABC):
    """Maps images to the space that a distance between sets of images is taken in."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Features with shape :math:`(B, D)`.

        Arguments:
            images: With shape :math:`(B, 3, H, W)` and values in :math:`[0, 1]`.
        """

    def reference(self) -> Tensor | None:
        """Features of the real images of its world, with shape :math:`(N, D)`; None if it has none."""
        return None


class ImageText(Detector, ImageFeatures):
    """A CLIP: features of images and texts in one space, and a detector for any label that can be put in
    words.

    An image shows a label if the label's prompt is the most probable one among its own and those of
    ``others``, and at least as probable as ``threshold``:

    .. math:: p = \\operatorname{softmax}(s \\cos(E_I(x), E_T(t_k)))

    Attributes:
        others: Labels that compete with the one asked for.
        template: Sentence that a label is put into, with ``{}`` for the label.
        scale: The temperature :math:`s`; CLIP trains it to 100.
    """

    others: list[str]
    template: str
    scale: ClassVar[float] = 100.0

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """What :meth:`scores` gives: those that compete. Any other label can be asked for, too."""
        return tuple(self.others)

    @abstractmethod
    def text_features(self, texts: list[str]) -> Tensor:
        """Features with shape :math:`(B, D)`, not normalised."""

    def readout(self, images: Tensor) -> Tensor:
        """The image features, normalised, with shape :math:`(B, D)`."""
        return normalize(self.features(images).float(), dim=-1)

    def knows(self, label: str) -> bool:
        """Whether ``label`` says anything at all."""
        return bool(label.strip())

    def scores(self, images: Tensor) -> Tensor:
        """Probability of each of ``labels`` among them, with shape :math:`(B, K)`."""
        return self._probabilities(self.readout(images), list(self.labels))

    def probability(self, readout: Tensor, label: str) -> Tensor:
        """Probability of ``label`` among itself and ``others``, with shape :math:`(B)`."""
        return self._among_others(readout, label)[:, 0]

    def decide(self, readout: Tensor, label: str) -> Tensor:
        """Whether ``label`` is the most probable, and probable enough, as booleans with shape :math:`(B)`."""
        probabilities = self._among_others(readout, label)
        return (probabilities.argmax(dim=1) == 0) & (probabilities[:, 0] >= self.threshold)

    def abstains(self, readout: Tensor, label: str) -> Tensor:
        """Whether no label at all is probable enough, as booleans with shape :math:`(B)`; never with a
        threshold of 0."""
        return self._among_others(readout, label).amax(dim=1) < self.threshold

    def _among_others(self, readout: Tensor, label: str) -> Tensor:
        return self._probabilities(readout, [label, *(other for other in self.others if other != label)])

    def _probabilities(self, readout: Tensor, labels: list[str]) -> Tensor:
        known: dict[str, Tensor] = self.__dict__.setdefault("_known_texts", {})
        if new := [label for label in labels if label not in known]:
            found = normalize(
                self.text_features([self.template.format(label) for label in new]).float(), dim=-1
            )
            known.update(zip(new, found.cpu(), strict=True))
        texts = torch.stack([known[label] for label in labels])
        return torch.softmax(self.scale * readout @ texts.T.to(readout), dim=1)


def read_reference(path: str | None) -> Tensor | None:
    """The tensor ``features``, with shape :math:`(N, D)`, of a safetensors file; None if there is no file to
    read.

    Raises:
        ConfigError: If the file is missing or does not hold it.
    """
    if path is None:
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return cast(Tensor, file.get_tensor("features"))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"statistics: {path} holds no features ({error}).") from None
