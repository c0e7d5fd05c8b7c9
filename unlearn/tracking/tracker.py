"""Where numbers and images go while a run goes on.

Every run keeps ``metrics.jsonl`` in its folder, from which the report draws its curves; a configured tracker
gets the same and more. Nothing but this file knows Weights & Biases.
"""

from __future__ import annotations

import json
import netrc
import os
import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from unlearn.settings import Settings, setting
from unlearn.system.network import silent
from unlearn.system.writing import saying

#: Seconds that W&B's server has to show that it is there, and then to begin a run.
ANSWER, BEGIN = 4.0, 8.0
#: Seconds that what is not uploaded yet has at the end of a run; WANDB_FINISH_TIMEOUT says otherwise.
FINISH = 60.0
#: Exit code by which W&B calls a run killed, not failed.
KILLED = 255
MODES = ("auto", "disabled", "offline", "online")


class Tracker(Settings, ABC):
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
    def close(self, failed: bool, stopped: bool = False) -> None:
        """Ends the run, whether or not it has failed.

        Arguments:
            failed: Whether it has not come to its end.
            stopped: Whether that is because it was asked to stop: it will be gone on with.
        """


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

    def close(self, failed: bool, stopped: bool = False) -> None:
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

    def close(self, failed: bool, stopped: bool = False) -> None:  # noqa: ARG002
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

    A server that cannot be reached, does not answer or fails never keeps a run from its work: the run goes on
    offline, or is kept in its folder, and ``wandb sync`` uploads it later.

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
    mode: str = setting(choices=MODES)

    def open(self, folder: Path, config: Mapping[str, Any], name: str, group: str | None) -> None:
        """Begins a run; one that was started before is gone on with, since its name is its id."""
        # W&B's reports about itself would hold up the end of the program where its server hangs.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._lost = ""
        mode = (
            os.environ.get("WANDB_MODE", "online" if _logged_in() else "offline")
            if self.mode == "auto"
            else self.mode
        )
        about = {"config": dict(config), "name": name, "id": name, "group": group, "dir": folder}
        self._server = wandb.setup().settings.base_url
        if mode == "online" and (problem := silent(self._server, ANSWER)):
            self._lose(f"{self._server}: {problem}")
        elif mode == "online":
            try:
                self._run = self._begun(mode, about)
            except wandb.Error as error:
                self._lose(error)
                wandb.teardown()  # it would hold the run's id for the one that failed
        if mode != "online" or self._lost:
            self._run = self._begun("offline" if self._lost else mode, about)
        self._folder = self._run.settings.sync_dir
        self._online = mode == "online" and not self._lost

    def _begun(self, mode: str, about: Mapping[str, Any]) -> Any:
        import wandb

        own: dict[str, Any] = {} if os.environ.get("WANDB_FINISH_TIMEOUT") else {"finish_timeout": FINISH}
        return wandb.init(
            **about,
            project=self.project,
            entity=self.entity,
            mode=mode,  # type: ignore[arg-type]
            job_type="run",
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_stats=True,
                disable_git=mode != "online",
                init_timeout=BEGIN,
                finish_timeout_raises=True,
                **own,
            ),
        )

    def log(self, stage: str, values: Mapping[str, float], step: int) -> None:
        """Logs ``<stage>/<name>`` over ``<stage>/step``, an axis of the stage's own."""
        row = {f"{stage}/step": step} | {f"{stage}/{key}": value for key, value in values.items()}
        self._tell(lambda run: run.define_metric(f"{stage}/*", step_metric=f"{stage}/step"))
        self._tell(lambda run: run.log(row))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Logs a table with its images."""
        import wandb

        columns: list[str | int] = list(rows[0])
        data = [[_cell(value) for value in row.values()] for row in rows]
        self._tell(lambda run: run.log({name: wandb.Table(columns=columns, data=data)}))

    def summary(self, values: Mapping[str, float | None]) -> None:
        """Sets the run's row in the project's table."""
        self._tell(lambda run: run.summary.update(dict(values)))

    def files(self, paths: Sequence[Path]) -> None:
        """Logs an artifact named after the run."""
        import wandb

        artifact = wandb.Artifact(str(self._run.name), type="results")
        for path in paths:
            artifact.add_file(str(path))
        if self._online and (problem := silent(self._server, ANSWER)):  # it would be asked for half a minute
            self._lose(f"{self._server}: {problem}")
            return
        self._tell(lambda run: run.log_artifact(artifact))

    def close(self, failed: bool, stopped: bool = False) -> None:
        """Finishes the run; a failed one is marked as such, and one that was stopped as preempted."""
        if stopped and self._online:
            self._tell(lambda run: run.mark_preempting())
        code = KILLED if stopped else int(failed)
        self._tell(lambda run: run.finish(exit_code=code))
        if self._lost:
            print(
                f"unlearn: to upload this run to W&B: wandb sync {shlex.quote(self._folder)}", file=sys.stderr
            )

    def _tell(self, call: Callable[[Any], object]) -> None:
        """Tells W&B something; what it makes of it is no reason to end a run."""
        import wandb

        try:
            call(self._run)
        except (wandb.Error, OSError) as error:  # a TimeoutError among these
            self._lose(error)

    def _lose(self, why: object) -> None:
        """Warns, once a run, that the server does not have what it is told."""
        if not self._lost:
            self._lost = " ".join(str(why).split())[:200]
            print(
                f"unlearn: W&B's server does not do its part ({self._lost}). The run goes on without, and "
                "keeps what it tells in its folder.",
                file=sys.stderr,
            )


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
            stack.push(partial(_closed, each))
        yield Tracking(trackers)


def _closed(tracker: Tracker, kind: type[BaseException] | None, *_: object) -> None:
    """Closes a tracker as the block was left."""
    tracker.close(failed=kind is not None, stopped=kind is not None and issubclass(kind, KeyboardInterrupt))


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
