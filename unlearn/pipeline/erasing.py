"""Erasing: what the method does to the original model, once, or once for each concept of a sequence."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, Meter, Method
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.parameters import drift
from unlearn.pipeline.memory import accounted
from unlearn.pipeline.original import Source
from unlearn.store.artifacts import Store, content, listed
from unlearn.store.provenance import made_by
from unlearn.tracking.several import Tracking

COST = "cost.json"


@dataclass(frozen=True)
class Erased:
    """What the method did.

    Attributes:
        erasure: The changes.
        folder: The artifact.
        inputs: All that they depend on.
        cost: ``seconds``, ``forwards`` and ``peak_memory_gib``; and ``drift``, see
            :func:`unlearn.models.weights.parameters.drift`.
    """

    erasure: Erasure
    folder: Path
    inputs: Mapping[str, Any]
    cost: Mapping[str, float | None]


def erase(
    method: Method, steps: Sequence[ConceptSet], seed: int, source: Source, store: Store, tracking: Tracking
) -> list[Erased]:
    """Runs the method, or finds what it did; in a sequence once for each concept, on what the last one left.

    Arguments:
        steps: What to erase, one after another.
        seed: Of all randomness of the method.

    Returns:
        What each step and those before it did to the original model.
    """
    done: list[Erased] = []
    counted = 0
    for concepts in steps:
        task = Task(method, concepts, seed, done[-1] if done else None)
        done.append(_erased(task, source, store, Log(tracking, counted)))
        counted += len(done[-1].erasure.history)
    return done


@dataclass(frozen=True)
class Task:
    """One step.

    Attributes:
        method: How to erase.
        concepts: What to erase.
        seed: Of all randomness of the method.
        before: What the step before it left, if there is one.
    """

    method: Method
    concepts: ConceptSet
    seed: int
    before: Erased | None


class Log:
    """Tells the tracker of a step each of its numbers once, and remembers which it has told.

    Arguments:
        first: What its own steps are counted on from.
    """

    def __init__(self, tracking: Tracking, first: int) -> None:
        self._tracking, self._first = tracking, first
        self._told: dict[int, set[str]] = {}

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        """Takes named values and the step that they belong to."""
        self._told.setdefault(step, set()).update(values)
        self._tracking.log("erase", values, self._first + step)

    def rest(self, history: Sequence[Mapping[str, float]]) -> None:
        """Tells what is left of a history: of a run that was resumed, or of an earlier one."""
        for index, row in enumerate(history):
            step = int(row.get("step", index))
            told = {"step"} | self._told.get(step, set())
            if left := {key: value for key, value in row.items() if key not in told}:
                self(left, step)


def _erased(task: Task, source: Source, store: Store, log: Log) -> Erased:
    """One step, whose history ends up in ``log`` either way."""
    inputs = {
        "concepts": task.concepts,
        "method": task.method,
        "seed": task.seed,
        "source": source.identity(),
        **made_by(_erased, task.method, task.concepts),
    }
    if task.before is not None:
        inputs["after"] = task.before.folder.name

    def make(folder: Path) -> None:
        model = source()
        _begin_memory()
        if found := store.abandoned("erasure", inputs, "method"):
            print(f"erase: begins anew; unfinished work differs in {listed(found)}.", file=sys.stderr)
        context = Context(
            seed=task.seed,
            scratch=store.scratch("erasure", inputs),
            log=log,
            progress=sys.stderr.isatty(),
            meter=Meter(model),
        )
        with accounted(task.method, source.card, source.device):
            erasure = _run(task, model, context)
        cost = context.meter.read() | {"peak_memory_gib": _peak_memory(), "drift": drift(model, erasure)}
        erasure.save(folder)
        (folder / COST).write_text(json.dumps(cost))

    folder = store.once("erasure", inputs, make)
    erasure = Erasure.load(folder)
    log.rest(erasure.history)
    return Erased(erasure, folder, inputs, content(folder / COST))


def _run(task: Task, model: DiffusionModel, context: Context) -> Erasure:
    if task.before is None:
        return task.method.erase(model, task.concepts, context)
    return task.method.continued(model, task.concepts, context, task.before.erasure)


def _begin_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_memory() -> float:
    """Of the GPU since the erasure began, or of the process where there is none, in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
