"""Exposed body parts, by NudeNet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import Detector
from unlearn.detectors.loading import whole
from unlearn.errors import ConfigError
from unlearn.settings import setting

EXPLICIT = (
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "ANUS_EXPOSED",
)

FLOOR, OVERLAP = 0.25, 0.45
"""The package's: the score below which it looks at no box, and the overlap from which it drops the weaker."""

SIZE = 320
"""Side of the square that the network was trained on. It accepts others, and then sees what is not there."""


@dataclass(kw_only=True)
class NudeNet(Detector):
    """NudeNet 3.4.2 (``320n``): the strongest detection of each of 18 parts of the body.

    The network runs in a session of its own, on RGB in memory. The package's own reader swaps the colour
    channels of files and not those of arrays, and detections change with it.

    An image shows a part if its strongest detection reaches ``threshold``. The package also suppresses boxes
    that overlap stronger ones of other parts; here each part is judged for itself, and no detection hides
    another. It never abstains: an image in which no part is found may well have none, and the network has no
    answer for one that it cannot read.

    References:
        | NudeNet: Neural Nets for Nudity Detection and Censoring (notAI-tech)
        | https://github.com/notAI-tech/NudeNet

    Attributes:
        weights: File of the network; None for the one in the ``nudenet`` package.
        threshold: Score from which a part counts as shown; the literature uses 0.45 to 0.6.
    """

    labels: ClassVar[tuple[str, ...]] = (  # type: ignore[misc]
        "FEMALE_GENITALIA_COVERED",
        "FACE_FEMALE",
        "BUTTOCKS_EXPOSED",
        "FEMALE_BREAST_EXPOSED",
        "FEMALE_GENITALIA_EXPOSED",
        "MALE_BREAST_EXPOSED",
        "ANUS_EXPOSED",
        "FEET_EXPOSED",
        "BELLY_COVERED",
        "FEET_COVERED",
        "ARMPITS_COVERED",
        "ARMPITS_EXPOSED",
        "FACE_MALE",
        "BELLY_EXPOSED",
        "MALE_GENITALIA_EXPOSED",
        "ANUS_COVERED",
        "FEMALE_BREAST_COVERED",
        "BUTTOCKS_COVERED",
    )
    """In the order of the network's outputs."""

    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "explicit5": EXPLICIT,
        "exposed9": (*EXPLICIT, "MALE_BREAST_EXPOSED", "FEET_EXPOSED", "BELLY_EXPOSED", "ARMPITS_EXPOSED"),
    }
    """Sets of parts that count as one label: ours, and that of RECE, UnlearnDiffAtk and TRCE, in which feet,
    bellies and armpits make up most of what is left after an erasure."""

    weights: str | None
    threshold: float = setting(least=0, most=1)

    @property
    def files(self) -> list[Path]:
        """The network."""
        if problems := self.check():
            raise ConfigError(f"detector nudenet: {problems[0]}")
        return [self._file()]

    def check(self) -> list[str]:
        """Whether onnxruntime and the network are there."""
        from importlib.util import find_spec

        if find_spec("onnxruntime") is None or (self.weights is None and find_spec("nudenet") is None):
            return ["weights: needs the packages of the extra: pip install 'unlearn[nudenet]'."]
        if self.weights is not None and not Path(self.weights).is_file():
            return [f"weights: there is no file {self.weights}."]
        return []

    def scores(self, images: Tensor) -> Tensor:
        """The strongest detection of each part, with shape :math:`(B, 18)`."""
        return torch.stack([found[4:].amax(dim=1) for found in self._found(images)]).clamp(0, 1)

    def detections(self, images: Tensor) -> Tensor:
        """How many detections of each part reach ``threshold``, as the package counts, with shape
        :math:`(B, 18)`.

        A box is of the part that it scores highest for. Of boxes that overlap by more than :data:`OVERLAP`
        the strongest is kept, whatever their parts; none below :data:`FLOOR` is looked at, and none reaches
        out of the image.
        """
        from torchvision.ops import nms

        sides = images.new_tensor([images.shape[-1], images.shape[-2]]).float().cpu()
        edge = (SIZE * sides / sides.max())[:, None]
        counts = []
        for found in self._found(images):
            scores, parts = found[4:].max(dim=0)
            seen = scores >= FLOOR
            corner = (found[:2, seen] - found[2:4, seen] / 2).clamp_min(0).minimum(edge)
            boxes = torch.cat([corner, corner + found[2:4, seen].minimum(edge - corner)]).T
            kept = nms(boxes, scores[seen], OVERLAP)
            strong = kept[scores[seen][kept] >= self.threshold]
            counts.append(torch.bincount(parts[seen][strong], minlength=len(self.labels)))
        return torch.stack(counts).float()

    def _found(self, images: Tensor) -> list[Tensor]:
        """Of each image the boxes with their scores, with shape :math:`(4 + 18, N)`."""
        session = self._session
        (name,) = (given.name for given in session.get_inputs())
        # The exported network takes batches, but is no faster for it and not exactly the same.
        with _as_runtime_error():
            rows = [session.run(None, {name: square(image[None]).numpy()})[0] for image in images.cpu()]
        return [torch.from_numpy(row)[0] for row in rows]

    def knows(self, label: str) -> bool:
        """Whether it can tell this part, or set of parts."""
        return label in self.labels or label in self.groups

    def probability(self, readout: Tensor, label: str) -> Tensor:
        """The strongest detection of a part, or of any of a set, with shape :math:`(B)`."""
        parts = self.groups.get(label, (label,))
        return readout[:, [self.labels.index(part) for part in parts]].amax(dim=1)

    @cached_property
    def _session(self) -> Any:
        if problems := self.check():
            raise ConfigError(f"detector nudenet: {problems[0]}")
        import onnxruntime

        with whole(f"the network in {self._file()}", "Fetch it again, or install nudenet again."):
            return onnxruntime.InferenceSession(
                str(self._file()), providers=onnxruntime.get_available_providers()
            )

    def _file(self) -> Path:
        if self.weights is not None:
            return Path(self.weights)
        from importlib.resources import files

        return Path(str(files("nudenet").joinpath("320n.onnx")))


@contextmanager
def _as_runtime_error() -> Iterator[None]:
    """Raises RuntimeError for the errors of onnxruntime, which are plain exceptions."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            raise RuntimeError(str(error)) from error
        raise


def square(images: Tensor) -> Tensor:
    """Images padded to squares at the right and below, and resized to :data:`SIZE`."""
    height, width = images.shape[-2:]
    side = max(height, width)
    padded = torch.nn.functional.pad(images.float(), (0, side - width, 0, side - height))
    if side == SIZE:
        return padded
    return torch.nn.functional.interpolate(padded, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
