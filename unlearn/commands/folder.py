"""The folder of a run: whose it is, who writes to it, and what is left of it after a failure."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from unlearn.errors import ConfigError
from unlearn.system.locks import held
from unlearn.system.writing import write

HYDRA = ".hydra"
LOCK = ".unlearn.lock"
RESULTS = ("metrics.jsonl", "results.json")

#: What a run writes into its folder, beside its log.
OWN = (HYDRA, LOCK, *RESULTS, "items.jsonl", "report.html", "wandb")


@dataclass
class RunFolder:
    """The folder of a run, which Hydra has just made, or which was there before.

    Attributes:
        path: Where it is.
        log: The file in it that libraries' logs go to.
    """

    #: When this process began with the command, or was started for it: what is older was made by others.
    began: ClassVar[float] = time.time()

    path: Path
    log: Path
    _made_here: bool = field(init=False)
    _written: list[Path] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        # The time at which a folder changed last is that of its making as long as it is empty.
        self._made_here = self.path.stat().st_ctime >= self.began and not any(self.path.iterdir())

    def check(self, fingerprint: str) -> None:
        """Finds out whether the run may write here.

        Arguments:
            fingerprint: Of the run.

        Raises:
            ConfigError: If that would overwrite what is of somebody else, or the results of another run.
        """
        check_ours(self.path, self.log.name)
        self._check_results(fingerprint)

    def _check_results(self, fingerprint: str) -> None:
        try:
            found = json.loads((self.path / "results.json").read_text(encoding="utf-8"))["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it is written anew
            return
        if found != fingerprint:
            raise ConfigError(
                f"hydra.run.dir: {self.path} holds the results of another run (its fingerprint is {found}, "
                f"this one's {fingerprint}). Give another folder, or move it elsewhere."
            )

    @contextmanager
    def held(self, fingerprint: str, texts: Mapping[str, str]) -> Iterator[None]:
        """Keeps the folder for this process; a second run waits here for the first.

        Arguments:
            fingerprint: Of the run.
            texts: How the run was started: the files of ``.hydra``, by their names.

        Raises:
            ConfigError: If it has waited for another run, whose results lie there now.
        """
        waiting = f"another run writes to {self.path}. Waiting for it to end."
        with held(self.path / LOCK, waiting):
            self._check_results(fingerprint)
            for name, text in texts.items():
                self._written.append(write(self.path / HYDRA / name, text))
            yield

    def detach(self) -> None:
        """Ends the log: what Hydra says later, of a sweep's next job, belongs into no folder of this one."""
        root = logging.getLogger()
        for handler in root.handlers[:]:
            if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename) == self.log:
                root.removeHandler(handler)
                handler.close()

    def abandon(self) -> None:
        """After a failure: removes the folder if this process made it and there is no result in it yet.

        Only files of this run are removed; a folder in which there is anything else stays.
        """
        if not self._made_here or any((self.path / name).exists() for name in (LOCK, *RESULTS)):
            return
        for path in (*self._written, self.log):
            path.unlink(missing_ok=True)
        for folder in (self.path / HYDRA, self.path):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def check_ours(folder: Path, log: str) -> None:
    """Finds out whether what lies in a folder under the names of a run's files is that of a run.

    Raises:
        ConfigError: If it is not.
    """
    there = [name for name in (*OWN, log) if (folder / name).exists() and name != LOCK]
    # In this order: a run takes the lock, writes what it is known by, and gives the lock back last.
    if there and not ((folder / LOCK).exists() or _is_run(folder)):
        raise ConfigError(
            f"hydra.run.dir: {folder} is the folder of no run, and its {there[0]} would be overwritten. Give "
            "another folder, or move that elsewhere."
        )


def check_sweep(folder: Path) -> None:
    """Finds out whether a sweep may write its ``multirun.yaml``.

    Raises:
        ConfigError: If there is one that no sweep has written.
    """
    path = folder / "multirun.yaml"
    if path.exists() and "path: unlearn.conf" not in _text(path):
        raise ConfigError(
            f"hydra.sweep.dir: {path} is of no sweep, and would be overwritten. Give another folder, or move "
            "it elsewhere."
        )


def _is_run(folder: Path) -> bool:
    """Whether this program has begun a run there."""
    return "path: unlearn.conf" in _text(folder / HYDRA / "hydra.yaml")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
