"""Where numbers and images go while a run goes on.

Every run keeps ``metrics.jsonl`` in its folder, from which the report draws its curves; a configured tracker
gets the same and more. Nothing but this file knows Weights & Biases.
"""

from __future__ import annotations

import json
import netrc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from unlearn.errors import unknown
from unlearn.writing import saying

MODES = ("auto", "disabled", "offline", "online")


class Tracker(ABC):
    """Takes what a run reports, between one call of :meth:`open` and one of :meth:`close`."""

    @abstractmethod
    def open(self, folder: Path, config: Mapping[str, Any], name: str, group: str | None) -> None:
        """Begins a run.

        Arguments:
            folder: The run's folder.
            config: Its resolved configuration.
            name: Its name, the same when it is started again.
            group: Name of the sweep that it belongs to, if any.
        """

    @abstractmethod
    def log(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Takes numbers of one step of a stage, such as the loss of a training step."""

    @abstractmethod
    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes a table, one mapping a row; a path in it is that of an image."""

    @abstractmethod
    def summary(self, values: Mapping[str, float | None]) -> None:
        """Takes the numbers that stand for the whole run."""

    @abstractmethod
    def files(self, paths: Sequence[Path]) -> None:
        """Takes the files that the run ends with."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Ends the run, whether or not it has failed."""


@dataclass(kw_only=True)
class Silent(Tracker):
    """Keeps nothing but the file that every run keeps."""

    def open(self, folder: Path, config: Mapping[str, Any], name: str, group: str | None) -> None:
        """Does nothing."""

    def log(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Does nothing."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Does nothing."""

    def summary(self, values: Mapping[str, float | None]) -> None:
        """Does nothing."""

    def files(self, paths: Sequence[Path]) -> None:
        """Does nothing."""

    def close(self, failed: bool) -> None:
        """Does nothing."""


class Jsonl(Silent):
    """``metrics.jsonl``: a line for each step, with its ``stage``, ``step``, ``time`` (s) and numbers."""

    _path: Path
    _file: TextIO

    def open(self, folder: Path, config: Mapping[str, Any], name: str, group: str | None) -> None:  # noqa: ARG002
        """Begins the file anew: what an earlier call found is said again by the run itself.

        That of a finished run is kept aside until this one is finished as well.
        """
        self._path = folder / "metrics.jsonl"
        with saying(self._path):
            if (folder / "results.json").exists() and self._path.exists() and not self._earlier.exists():
                self._path.rename(self._earlier)
            self._file = self._path.open("w", encoding="utf-8")

    def log(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Writes a line."""
        line = json.dumps({"stage": stage, "step": step, "time": time.time(), **values})
        with saying(self._path):
            print(line, file=self._file, flush=True)

    def close(self, failed: bool) -> None:
        """Closes the file; after a failure, the one of the run that was finished before is back."""
        with saying(self._path):
            self._file.close()
        if failed and self._earlier.exists():
            self._earlier.replace(self._path)
        self._earlier.unlink(missing_ok=True)

    @property
    def _earlier(self) -> Path:
        return self._path.with_name(f".{self._path.name}.old")


@dataclass(kw_only=True)
class Wandb(Tracker):
    """Weights & Biases: curves, scores, image tables and the report, beside those of other runs.

    References:
        | https://docs.wandb.ai

    Attributes:
        project: Project that the run appears in.
        entity: User or team that it belongs to; None for the account's default.
        mode: ``online``, ``offline`` (kept in the run folder, for ``wandb sync``), ``disabled``, or ``auto``:
            online where the machine is logged in, else offline.
    """

    project: str
    entity: str | None
    mode: str

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode: {unknown('mode', self.mode, MODES)}")

    def open(self, folder: Path, config: Mapping[str, Any], name: str, group: str | None) -> None:
        """Begins a run; one that was started before is gone on with, since its name is its id."""
        import wandb

        mode = (
            os.environ.get("WANDB_MODE", "online" if _logged_in() else "offline")
            if self.mode == "auto"
            else self.mode
        )
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            mode=mode,  # type: ignore[arg-type]
            dir=folder,
            config=dict(config),
            name=name,
            id=name,
            group=group,
            job_type="run",
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=mode != "online"
            ),
        )

    def log(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Logs ``<stage>/<name>`` over ``<stage>/step``, an axis of the stage's own."""
        self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._run.log({f"{stage}/step": step} | {f"{stage}/{key}": value for key, value in values.items()})

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Logs a table with its images."""
        import wandb

        columns: list[str | int] = list(rows[0])
        data = [[_cell(value) for value in row.values()] for row in rows]
        self._run.log({name: wandb.Table(columns=columns, data=data)})

    def summary(self, values: Mapping[str, float | None]) -> None:
        """Sets the run's row in the project's table."""
        self._run.summary.update(dict(values))

    def files(self, paths: Sequence[Path]) -> None:
        """Logs an artifact named after the run."""
        import wandb

        artifact = wandb.Artifact(str(self._run.name), type="results")
        for path in paths:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        """Finishes the run; a failed one is marked as such."""
        self._run.finish(exit_code=int(failed))


TRACKERS: dict[str, type[Tracker]] = {"none": Silent, "wandb": Wandb}


@dataclass(frozen=True)
class Tracking:
    """Hands what a run reports on to several trackers.

    Attributes:
        trackers: All of them, open.
    """

    trackers: tuple[Tracker, ...]

    def log(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Takes numbers of one step of a stage."""
        for tracker in self.trackers:
            tracker.log(stage, values, step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes a table; one without rows is left out."""
        for tracker in self.trackers if rows else ():
            tracker.table(name, rows)

    def summary(self, values: Mapping[str, float | None]) -> None:
        """Takes the numbers that stand for the whole run."""
        for tracker in self.trackers:
            tracker.summary(values)

    def files(self, paths: Sequence[Path]) -> None:
        """Takes the files that the run ends with."""
        for tracker in self.trackers:
            tracker.files(paths)


@contextmanager
def tracked(
    tracker: Tracker, folder: Path, config: Mapping[str, Any], name: str, group: str | None
) -> Iterator[Tracking]:
    """Opens ``tracker`` and ``metrics.jsonl``, and closes both however the block is left."""
    with ExitStack() as stack:
        trackers = (Jsonl(), tracker)
        for each in trackers:
            each.open(folder, config, name, group)
            stack.push(lambda kind, _error, _trace, each=each: each.close(failed=kind is not None))
        yield Tracking(trackers)


def _logged_in() -> bool:
    """Whether there is an API key, looked up without a word to the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def _cell(value: Any) -> Any:
    import wandb

    return wandb.Image(str(value)) if isinstance(value, Path) else value
