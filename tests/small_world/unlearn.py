"""``unlearn`` in a world that is drawn in no time: a random model, and detectors that look at colours.

``python tests/small_world/unlearn.py run --config-dir tests/small_world model.source=FOLDER`` goes through
all that the real command goes through. With ``SMALL_WORLD_KILL=N`` it is killed at its N-th chance, and with
``SMALL_WORLD_SIGNAL=NAME:N`` it gets that signal within the N-th step of a training.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

sys.path.pop(0)  # this folder, in which a module is called unlearn

from unlearn.attacks.gradient.gradient_attack import GradientAttack
from unlearn.catalogue import DETECTORS
from unlearn.cli import main
from unlearn.detectors.detector import ImageText
from unlearn.methods.training import loop as training
from unlearn.models.families.sd import StableDiffusion
from unlearn.pipeline import drawing, run
from unlearn.store import artifacts, provenance


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
    drawing.write_image = doomed(drawing.write_image)
    GradientAttack._step = doomed(GradientAttack._step)


def signal_at(name: str, step: int) -> None:
    """Sends this process a signal while the gradients of the ``step``-th training step are computed."""
    left = [step]
    compute = training.used_gradients

    def interrupted(loss, parameters):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), getattr(signal, name))
        return compute(loss, parameters)

    training.used_gradients = interrupted


def doom(stage: str, delay: float, name: str) -> None:
    """Sends this process a signal so many seconds after a stage has begun, and says on stderr which was on.

    Arguments:
        stage: As a run prints it; or ``load``, reading the weights, or ``checkpoint``, the writing of one,
            where it is written for every step.
    """
    current = ["start"]

    def strike() -> None:
        time.sleep(delay)
        os.write(2, f"soak: {name} in {current[-1]}\n".encode())
        os.kill(os.getpid(), getattr(signal, name))

    def begun(here: str) -> None:
        current.append(here)
        if here == stage and current.count(stage) == 1:
            threading.Thread(target=strike, daemon=True).start()

    def watched(here: str, function):
        def wrapped(*arguments, **named):
            begun(here)
            try:
                return function(*arguments, **named)
            finally:
                current.pop()

        return wrapped

    real = run._stage

    @contextmanager
    def entered(here: str, store):
        begun(here if here != "load" else "identify")
        with real(here, store):
            yield
        current.pop()

    run._stage = entered
    StableDiffusion._build = watched("load", StableDiffusion._build)
    training._save = watched("checkpoint", training._save)


if __name__ == "__main__":
    DETECTORS["colours"] = Colours
    if "SMALL_WORLD_CODE" not in os.environ:
        provenance._parsed = lambda *_: {}  # an edit between two calls of one test is to change nothing
    if chance := int(os.environ.get("SMALL_WORLD_KILL", "0")):
        die_at(chance)
    if said := os.environ.get("SMALL_WORLD_SIGNAL"):
        signal_at(said.partition(":")[0], int(said.partition(":")[2]))
    if moment := os.environ.get("SMALL_WORLD_DOOM"):
        stage, delay, name = moment.split(":")
        doom(stage, float(delay), name)
    if seconds := os.environ.get("SMALL_WORLD_CHECKPOINTS"):
        training.CHECKPOINT_SECONDS = float(seconds)
    main()
