"""``unlearn`` in a world that is drawn in no time: a random model, and detectors that look at colours.

``python tests/small_world/unlearn.py run --config-dir tests/small_world model.source=FOLDER`` goes through
all that the real command goes through. With ``SMALL_WORLD_KILL=N`` it is killed at its N-th chance.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

sys.path.pop(0)  # this folder, in which a module is called unlearn

from unlearn import artifacts, images, provenance
from unlearn.attacks.gradient_attack import GradientAttack
from unlearn.cli import main
from unlearn.detectors import DETECTORS
from unlearn.detectors.detector import ImageText


@dataclass(kw_only=True)
class Colours(ImageText):
    """Sees a church where an image is redder than it is blue, else a house."""

    labels: ClassVar[tuple[str, ...]] = ("church", "house")
    template: ClassVar[str] = "{}"

    others: list[str]
    threshold: float

    def features(self, images: Tensor) -> Tensor:
        """Mean and spread of each channel."""
        return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)

    def text_features(self, texts: list[str]) -> Tensor:
        """Red for a church, blue for all else."""
        red, blue = [1.0, 0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 1.0, 0.1, 0.1, 0.1]
        return torch.tensor([red if "church" in text else blue for text in texts])

    def reference(self) -> Tensor:
        """Features of nothing in particular."""
        return torch.rand(40, 6, generator=torch.Generator().manual_seed(0))


def die_at(chance: int) -> None:
    """Kills this process when an artifact or image is written, or tokens move, for the ``chance``-th time."""
    left = [chance]

    def doomed(function):
        def wrapped(*arguments, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return wrapped

    artifacts._write = doomed(artifacts._write)
    images.write_image = doomed(images.write_image)
    GradientAttack._step = doomed(GradientAttack._step)


if __name__ == "__main__":
    DETECTORS["colours"] = Colours
    provenance._parsed = lambda *_: {}  # an edit between two calls of one test is to change nothing
    if chance := int(os.environ.get("SMALL_WORLD_KILL", "0")):
        die_at(chance)
    main()
