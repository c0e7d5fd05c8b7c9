"""Several trackers as one, open while a run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unlearn.tracking.jsonl import Jsonl
from unlearn.tracking.tracker import Tracker


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
