"""Gradient steps: the part that all training methods share."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from unlearn.errors import ArtifactError, IncompatibleError, UnlearnError
from unlearn.methods.method import Context, Meter
from unlearn.models.weights.gradients import used_gradients
from unlearn.models.weights.parameters import Selection
from unlearn.settings import Settings, setting
from unlearn.system import stopping
from unlearn.system.writing import whole

#: Seconds between checkpoints: what a killed training loses at most.
CHECKPOINT_SECONDS = 60.0

ALGORITHMS = ("adam", "sgd")


@dataclass(kw_only=True)
class Optimizer(Settings):
    """How gradients become steps.

    Attributes:
        algorithm: ``adam``, with decoupled weight decay if that is above 0, or ``sgd``.
        lr: Learning rate.
        warmup: Steps in which the learning rate grows linearly to ``lr``.
        weight_decay: Share of ``lr`` by which weights shrink each step.
        clip_norm: Largest norm of all gradients together; None for no limit.
        accumulate: Never clear a gradient, so that each step takes the sum of all so far. This is a mistake
            of some released code, here to reproduce it.
    """

    algorithm: str = setting(default="adam", choices=ALGORITHMS)
    lr: float = setting(above=0)
    warmup: int = setting(default=0, least=0, unit="optimizer steps")
    weight_decay: float = setting(default=0.0, least=0)
    clip_norm: float | None = setting(default=None, above=0)
    accumulate: bool = False

    def of(self, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
        """The optimizer itself, for these parameters."""
        if self.algorithm == "sgd":
            return torch.optim.SGD(parameters, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Composed:
    """A step that follows no single loss.

    Attributes:
        gradients: What the optimizer takes, for each trained parameter in its order; None for those that stay
            as they are.
        values: What to log, with the ``loss`` that must stay finite.
        watched: Gradients of losses, by name. How much the step changes each loss, to first order, is logged
            as ``<name>_change``: what an optimizer that is not plain gradient descent makes of a direction
            is known only then.
    """

    gradients: Sequence[Tensor | None]
    values: dict[str, float]
    watched: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)


class Companion(Protocol):
    """What is trained beside the parameters, by the loss itself: kept in checkpoints with them."""

    def state_dict(self) -> dict[str, Any]:
        """All that changes in training."""

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Takes that back."""


def fit(
    selection: Selection,
    loss: Callable[[int], Tensor | Composed],
    steps: int,
    optimizer: Optimizer,
    context: Context,
    companions: Mapping[str, Companion] | None = None,
) -> list[dict[str, float]]:
    """Takes optimizer steps on ``loss(0)``, ``loss(1)``, and so on.

    A checkpoint is written to ``context.scratch`` every minute, and when a signal asks to stop: after the
    step in hand, or before it where that draws images. If there is one, training goes on from it and ends
    with the same weights as if it had not been interrupted, as long as the loss depends on its step, the
    weights and ``context.seed`` alone: its random numbers come from generators derived from the step.

    Arguments:
        selection: The parameters to train.
        loss: Gives the loss of a step, with shape :math:`()`, or the gradients that it wants taken.
        steps: Number of steps.
        optimizer: How each step is taken.
        context: Where progress is logged and checkpoints lie.
        companions: What ``loss`` trains besides, by name.

    Returns:
        ``step``, ``loss``, ``lr`` and what else was composed, of each step.

    Raises:
        UnlearnError: If the loss is not finite; the last checkpoint before that step is kept.
        IncompatibleError: If a parameter is in half precision.
        ArtifactError: If the checkpoint cannot be read or belongs to other parameters.
        Stopped: If a signal asks to stop.
    """
    parameters = list(selection.parameters.values())
    _check_precision(parameters)
    companions = companions or {}
    stepper = optimizer.of(parameters)
    checkpoint = context.scratch / "checkpoint.pt"
    history = _resume(checkpoint, selection, {"optimizer": stepper, **companions}, context.meter)
    saved = time.monotonic()

    def keep() -> None:
        beside = {"optimizer": stepper, **companions}
        _save(checkpoint, selection, beside, history, context.meter, optimizer.accumulate)

    bar = tqdm(total=steps, initial=len(history), desc="erase", disable=not context.progress)
    with stopping.finishing(), bar:
        for step in range(len(history), steps):
            if not optimizer.accumulate:
                # The last step's gradients would lie beside the new ones otherwise.
                stepper.zero_grad()
            try:
                value = loss(step)
            except (
                stopping.Stopped
            ):  # while the loss draws images; no parameter has changed since the last step
                if not companions:
                    keep()
                raise
            values = dict(value.values) if isinstance(value, Composed) else {"loss": value.item()}
            number = values["loss"]
            if not math.isfinite(number):
                raise UnlearnError(
                    f"erase: the loss is {number} at step {step} of {steps}. Lower method.optimizer.lr; "
                    f"the last good checkpoint is {checkpoint}."
                    if checkpoint.exists()
                    else f"erase: the loss is {number} at step {step} of {steps}. Lower method.optimizer.lr."
                )
            gradients = value.gradients if isinstance(value, Composed) else used_gradients(value, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if optimizer.accumulate and parameter.grad is not None and gradient is not None:
                    parameter.grad += gradient
                elif not optimizer.accumulate or gradient is not None:
                    parameter.grad = gradient
            if optimizer.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, optimizer.clip_norm)
            rate = optimizer.lr * min(1.0, (step + 1) / max(1, optimizer.warmup))
            stepper.param_groups[0]["lr"] = rate
            watched = value.watched if isinstance(value, Composed) else {}
            before = {name: _inner(along, parameters) for name, along in watched.items()}
            stepper.step()
            for name, along in watched.items():
                values[f"{name}_change"] = _inner(along, parameters) - before[name]
            del value, gradients, watched
            history.append({"step": step, **values, "lr": rate})
            context.log({**values, "lr": rate}, step)
            bar.set_postfix(loss=f"{number:.4g}", refresh=False)
            bar.update()
            if stopping.wanted() or time.monotonic() - saved >= CHECKPOINT_SECONDS:
                keep()
                saved = time.monotonic()
                stopping.check()
    return history


def _inner(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> float:
    """Their inner product, in float64: the step is far smaller than the parameters."""
    products = [
        (gradient.double() * parameter.detach().double()).sum()
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]
    return float(torch.stack(products).sum())


def _check_precision(parameters: Iterable[Tensor]) -> None:
    """Refuses parameters in which small steps are rounded away; :func:`select` opens none of them."""
    halves = {str(p.dtype).removeprefix("torch.") for p in parameters} - {"float32", "float64"}
    if halves:
        raise IncompatibleError(
            f"erase: what is trained must be float32, got {', '.join(sorted(halves))}, which rounds small "
            "steps away. select() opens the weights of a model in half precision so."
        )


def _save(
    checkpoint: Path,
    selection: Selection,
    companions: Mapping[str, Companion],
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
        "companions": {name: each.state_dict() for name, each in companions.items()},
        "history": history,
        "cost": meter.read(),
    }
    with whole(checkpoint) as unfinished:
        torch.save(state, unfinished)


def _resume(
    checkpoint: Path, selection: Selection, companions: Mapping[str, Companion], meter: Meter
) -> list[dict[str, float]]:
    """Sets parameters and companions to the checkpoint, if there is one; returns the history up to it."""
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
    for name, each in companions.items():
        each.load_state_dict(state["companions"][name])
    meter.catch_up(state["cost"])
    return list(state["history"])
