"""The tracker that keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn.tracking.tracker import Tracker


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
