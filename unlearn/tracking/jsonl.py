"""``metrics.jsonl``, which every run keeps in its folder: the report draws its curves from it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from unlearn.system.writing import saying
from unlearn.tracking.none import Silent


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
