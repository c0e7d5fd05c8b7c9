"""What pocket's trainings share: learning-rate schedule, resumable checkpoints, curves on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.pocket import BUILD


def pixels(images: np.ndarray) -> Tensor:
    """Bytes with shape (B, 64, 64, 3) as floats in [-1, 1] with shape (B, 3, 64, 64)."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image in [-1, 1], with shape (B,)."""
    return -10 * torch.log10((images - others).square().mean((1, 2, 3)) / 4)


def rate(step: int, steps: int, *, warmup: int = 60, decay: float = 0.6) -> float:
    """Factor on the learning rate: warm up, hold, then fall linearly to 2 % over the last ``decay`` of the
    steps.

    ``steps`` may be changed on resume: the plateau does not depend on it.
    """
    left = (steps - step) / (decay * steps)
    return min(1.0, (step + 1) / warmup) * max(0.02, min(1.0, left))


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal before each step (Newton-Schulz, five steps, float32).

    Convolutions count as matrices of shape (out, in * height * width). torch's own Muon takes matrices only
    and iterates in bfloat16, which is slow on a CPU. Chosen over AdamW on short single trials.

    References:
        | Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024)
        | https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Applies the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                velocity = self.state[parameter].setdefault("velocity", torch.zeros_like(parameter))
                velocity.mul_(group["momentum"]).add_(parameter.grad)
                ahead = parameter.grad + group["momentum"] * velocity
                update = orthogonal(ahead.flatten(1))
                scale = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                parameter.sub_((group["lr"] * scale * update).view_as(parameter))


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal factor of ``matrix``: its singular values moved close to 1."""
    x = matrix / (matrix.norm() + 1e-7)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Training:
    """State that survives a kill, and a curve: ``<build>/<name>.pt`` and ``<build>/<name>.jsonl``."""

    def __init__(self, name: str, **parts: Any) -> None:
        self.path = BUILD / f"{name}.pt"
        self.curve = BUILD / f"{name}.jsonl"
        self.parts = parts
        self.step = 0
        self.seconds = 0.0
        self._started = time.perf_counter()
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.step, self.seconds = state.pop("step"), state.pop("seconds")
            for part, values in state.items():
                parts[part].load_state_dict(values)
            print(f"{name}: resumed at step {self.step}", flush=True)

    @property
    def elapsed(self) -> float:
        """Wall-clock seconds spent so far, interruptions left out."""
        return self.seconds + time.perf_counter() - self._started

    def save(self) -> None:
        """Writes the checkpoint; a kill leaves the old or the new one, never half of it."""
        state = {part: module.state_dict() for part, module in self.parts.items()}
        temporary = Path(f"{self.path}.tmp")
        torch.save({**state, "step": self.step, "seconds": self.elapsed}, temporary)
        temporary.replace(self.path)

    def log(self, values: Mapping[str, float]) -> None:
        """Adds a point to the curve and prints it."""
        row = {
            "step": self.step,
            "seconds": round(self.elapsed),
            **{k: round(v, 5) for k, v in values.items()},
        }
        with self.curve.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
