"""What the report reads of one run folder."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unlearn.errors import ArtifactError
from unlearn.store.layout import Item, Results
from unlearn.store.results import read_items, read_results

_NAMED_APART = ("concept", "method", "model", "seed")
_REPORTED, _TUNED = "eval.split=test", "eval.split=dev"
_IMMATERIAL = ("device", "force", "hydra", "objective", "outputs", "paths", "seeds", "tracker")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Its folder.
        results: Its ``results.json``.
        items: Its ``items.jsonl``; empty if it has none.
        curves: What it logged, by name: values by step.
        config: Its configuration as YAML; empty if it was not kept.
        overrides: What was said on its command line.
        is_pocket: Whether the model is of the small drawn world that ships with the package.
        split: Which half of the prompts it was measured on, ``test`` or ``dev``.
    """

    folder: Path
    results: Results
    items: list[Item]
    curves: dict[str, dict[float, float]]
    config: str
    overrides: list[str]
    is_pocket: bool
    split: str

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads a run folder.

        Raises:
            ArtifactError: If one of its files is damaged, or it has no results.
        """
        folder = Path(folder)
        results = read_results(folder)
        overrides = _parsed(folder / ".hydra" / "overrides.yaml")
        config = _parsed(folder / ".hydra" / "config.yaml")
        if not isinstance(overrides, list):  # not started by Hydra: the choices say the same
            overrides = [f"{group}={results[group]}" for group in ("method", "model", "concept", "seed")]
        return cls(
            folder=folder,
            results=results,
            items=read_items(folder, results["scores"]),
            curves=_curves(folder / "metrics.jsonl"),
            config=_text(folder / ".hydra" / "config.yaml"),
            overrides=[str(override) for override in overrides],
            is_pocket=_is_pocket(results, config),
            split=_split(config),
        )

    @property
    def command(self) -> str:
        """The command line that repeats the run."""
        return shlex.join(["unlearn", "run", *self.overrides])

    @property
    def variant(self) -> str:
        """The method and what was changed of its settings: runs that differ in it must not be averaged."""
        return " ".join([self.results["method"], *self.changes])

    @property
    def changes(self) -> list[str]:
        """What was said on its command line that can change a number; of the half ``dev``, wherever it was
        said, so that no number of it goes without."""
        keys = {override.lstrip("+~").partition("=")[0]: override for override in self.overrides}
        keys |= {"eval.split": f"eval.split={self.split}"}
        return [
            override
            for key, override in sorted(keys.items())
            if key not in _NAMED_APART and key.partition(".")[0] not in _IMMATERIAL and override != _REPORTED
        ]

    @property
    def is_explicit(self) -> bool:
        """Whether its images may show what should not be passed on by accident."""
        return not self.is_pocket and ("nudity" in self.results["concept"] or "kind: nudity" in self.config)


def labels(runs: Sequence[Run]) -> dict[str, str]:
    """What to call each variant beside the others: without what was said for all runs."""
    if len({run.variant for run in runs}) == 1:
        return {runs[0].variant: runs[0].variant}
    shared = set(runs[0].changes).intersection(*(run.changes for run in runs)) - {_TUNED}
    return {
        run.variant: " ".join([run.results["method"], *(c for c in run.changes if c not in shared)])
        for run in runs
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}).") from None


def _parsed(path: Path) -> Any:
    try:
        return yaml.safe_load(_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise ArtifactError(f"{path}: is damaged ({' '.join(str(error).split())}).") from None


def _is_pocket(results: Results, config: Any) -> bool:
    model = config.get("model") if isinstance(config, dict) else None
    world = model.get("world") if isinstance(model, dict) else None
    return bool(world == "pocket") if world else results["model"].startswith("pocket")


def _split(config: Any) -> str:
    """The half that a configuration says; runs from before there were two were measured on ``test``."""
    evaluation = config.get("eval") if isinstance(config, dict) else None
    return str(evaluation.get("split", "test")) if isinstance(evaluation, dict) else "test"


def _curves(path: Path) -> dict[str, dict[float, float]]:
    curves: dict[str, dict[float, float]] = {}
    for row in _rows(path):
        step, stage = row.get("step"), row.get("stage")
        if step is None or not _is_number(step):
            continue
        for key, value in row.items():
            if key not in ("step", "stage", "time") and _is_number(value):
                name = f"{stage}/{key}" if stage and "/" not in key else key
                curves.setdefault(name, {})[step] = float(value)  # a resumed run may log a step again
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for line in _text(path).split("\n"):
        try:
            row = json.loads(line)
        except (
            ValueError,
            RecursionError,
        ):  # a killed run may have left half a line behind; the rerun logged it again
            continue
        if isinstance(row, dict):
            yield row


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
