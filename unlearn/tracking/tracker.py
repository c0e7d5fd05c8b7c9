"""What every tracker takes: numbers and images, while a run goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlearn.settings import Settings


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
