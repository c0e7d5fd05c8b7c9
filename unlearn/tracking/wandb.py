"""Weights & Biases, which nothing but this file knows."""

from __future__ import annotations

import netrc
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.settings import setting
from unlearn.system.network import silent
from unlearn.tracking.tracker import Tracker

#: Seconds that W&B's server has to show that it is there, and then to begin a run.
ANSWER, BEGIN = 4.0, 8.0
#: Seconds that what is not uploaded yet has at the end of a run; WANDB_FINISH_TIMEOUT says otherwise.
FINISH = 60.0
#: Exit code by which W&B calls a run killed, not failed.
KILLED = 255
MODES = ("auto", "disabled", "offline", "online")


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
