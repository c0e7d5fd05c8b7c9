"""Gradient steps: the part that all training methods share."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from unlearn.errors import ArtifactError, IncompatibleError, UnlearnError
from unlearn.methods.method import Context, Meter
from unlearn.models.parameters import Selection

#: Seconds between checkpoints: what a killed training loses at most.
CHECKPOINT_SECONDS = 60.0


@dataclass(kw_only=True)
class Optimizer:
    """Adam, with decoupled weight decay if that is above 0.

    Attributes:
        lr: Learning rate.
        warmup: Steps in which the learning rate grows linearly to ``lr``.
        weight_decay: Share of ``lr`` by which weights shrink each step.
        clip_norm: Largest norm of all gradients together; None for no limit.
        accumulate: Never clear a gradient, so that each step takes the sum of all so far. This is a mistake
            of some released code, here to reproduce it.
    """

    lr: float
    warmup: int = 0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    accumulate: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr: must be a number above 0, got {self.lr}")
        for key in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise ValueError(f"{key}: must be a number from 0 up, got {getattr(self, key)}")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm: must be above 0, got {self.clip_norm}")


def fit(
    selection: Selection, loss: Callable[[int], Tensor], steps: int, optimizer: Optimizer, context: Context
) -> list[dict[str, float]]:
    """Takes optimizer steps on ``loss(0)``, ``loss(1)``, and so on.

    A checkpoint is written to ``context.scratch`` every minute. If there is one, training goes on from it and
    ends with the same weights as if it had not been interrupted, as long as the loss depends on its step, the
    weights and ``context.seed`` alone: its random numbers come from generators derived from the step.

    Arguments:
        selection: The parameters to train.
        loss: Gives the loss of a step, with shape :math:`()`.
        steps: Number of steps.
        optimizer: How each step is taken.
        context: Where progress is logged and checkpoints lie.

    Returns:
        ``step``, ``loss`` and ``lr`` of each step.

    Raises:
        UnlearnError: If the loss is not finite; the last checkpoint before that step is kept.
        IncompatibleError: If the parameters are in half precision, in which small steps are rounded away.
        ArtifactError: If the checkpoint cannot be read or belongs to other parameters.
    """
    parameters = list(selection.parameters.values())
    check_precision(parameters)
    adam = torch.optim.AdamW(parameters, lr=optimizer.lr, weight_decay=optimizer.weight_decay)
    checkpoint = context.scratch / "checkpoint.pt"
    history = _resume(checkpoint, selection, adam, context.meter)
    saved = time.monotonic()
    with tqdm(total=steps, initial=len(history), desc="erase", disable=not context.progress) as bar:
        for step in range(len(history), steps):
            value = loss(step)
            number = value.item()
            if not math.isfinite(number):
                raise UnlearnError(
                    f"erase: the loss is {number} at step {step} of {steps}. Lower method.optimizer.lr; "
                    f"the last good checkpoint is {checkpoint}."
                    if checkpoint.exists()
                    else f"erase: the loss is {number} at step {step} of {steps}. Lower method.optimizer.lr."
                )
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(value, parameters, allow_unused=True), strict=True
            ):
                if optimizer.accumulate and parameter.grad is not None and gradient is not None:
                    parameter.grad += gradient
                elif not optimizer.accumulate or gradient is not None:
                    parameter.grad = gradient
            if optimizer.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, optimizer.clip_norm)
            rate = optimizer.lr * min(1.0, (step + 1) / max(1, optimizer.warmup))
            adam.param_groups[0]["lr"] = rate
            adam.step()
            history.append({"step": step, "loss": number, "lr": rate})
            context.log({"loss": number, "lr": rate}, step)
            bar.set_postfix(loss=f"{number:.4g}", refresh=False)
            bar.update()
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                _save(checkpoint, selection, adam, history, context.meter, optimizer.accumulate)
                saved = time.monotonic()
    return history


def check_precision(parameters: Iterable[Tensor]) -> None:
    """Refuses what cannot be trained; for methods that have much to do before they call :func:`fit`.

    Raises:
        IncompatibleError: If parameters are in half precision, in which small steps are rounded away.
    """
    halves = {str(p.dtype).removeprefix("torch.") for p in parameters} - {"float32", "float64"}
    if halves:
        raise IncompatibleError(
            f"model.dtype: training needs float32, got {', '.join(sorted(halves))}, "
            "which rounds small steps away."
        )


def _save(
    checkpoint: Path,
    selection: Selection,
    adam: torch.optim.Optimizer,
    history: list[dict[str, float]],
    meter: Meter,
    accumulate: bool,
) -> None:
    """Writes the checkpoint whole or not at all."""
    parameters = {name: parameter.detach() for name, parameter in selection.parameters.items()}
    gradients = {
        name: p.grad for name, p in selection.parameters.items() if accumulate and p.grad is not None
    }
    state = {
        "parameters": parameters,
        "gradients": gradients,
        "adam": adam.state_dict(),
        "history": history,
        "cost": meter.read(),
    }
    unfinished = checkpoint.with_suffix(".tmp")
    torch.save(state, unfinished)
    unfinished.replace(checkpoint)


def _resume(
    checkpoint: Path, selection: Selection, adam: torch.optim.Optimizer, meter: Meter
) -> list[dict[str, float]]:
    """Sets parameters and optimizer to the checkpoint, if there is one, and returns the history up to it."""
    if not checkpoint.exists():
        return []
    mend = f"Delete {checkpoint.parent} and run again."
    try:
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ArtifactError(f"erase: cannot read the checkpoint {checkpoint}. {mend}") from error
    if state["parameters"].keys() != selection.parameters.keys():
        raise ArtifactError(f"erase: the checkpoint {checkpoint} belongs to other parameters. {mend}")
    for name, parameter in selection.parameters.items():
        parameter.data.copy_(state["parameters"][name])
        if name in state["gradients"]:
            parameter.grad = state["gradients"][name].to(parameter)
    adam.load_state_dict(state["adam"])
    meter.catch_up(state["cost"])
    return list(state["history"])
