"""What took a while to find out, remembered from run to run.

A book is one small JSON file in the user's cache folder. Nothing rests on it: one that is missing, damaged or
cannot be written only means that things are found out again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import xxhash

from unlearn.system.writing import whole

PAGES = 4096
"""Entries that a book holds at most; the oldest go first."""


def cache_folder() -> Path:
    """Where this package remembers: ``$XDG_CACHE_HOME/unlearn``, by default ``~/.cache/unlearn``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "unlearn"  # noqa: PTH111


class Book:
    """A mapping of strings to what JSON can hold, written when its block is left.

    Several processes may write one book: each takes up what the others have written, and replaces the file as
    a whole. Of two that do so in the same moment one may be lost, and is found out again.

    Arguments:
        name: The file's, without ``.json``.
    """

    def __init__(self, name: str) -> None:
        self._path = cache_folder() / f"{name}.json"
        self._known = _read(self._path)
        self._new: dict[str, Any] = {}

    def __enter__(self) -> Book:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._new:
            return
        entries = {**_read(self._path), **self._new}
        kept = dict(list(entries.items())[-PAGES:])
        # A full disk or a home that cannot be written: it is found out again next time.
        with suppress(OSError), whole(self._path, durable=False) as beside:
            beside.write_text(json.dumps({"check": _check(kept), "entries": kept}), "utf-8")

    def get(self, key: str) -> Any:
        """What stands under ``key``; None if nothing does."""
        return self._known.get(key)

    def add(self, key: str, value: Any) -> None:
        """Puts ``value`` under ``key``."""
        self._known[key] = self._new[key] = value


def _check(entries: dict[str, Any]) -> str:
    return xxhash.xxh3_64(json.dumps(entries).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        entries = content["entries"]
        return entries if isinstance(entries, dict) and content["check"] == _check(entries) else {}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return {}
