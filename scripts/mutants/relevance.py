"""Which tests run a line, so that no others need to be tried."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scripts.mutants.copy import Copy
from scripts.mutants.mutant import Mutant
from scripts.mutants.plan import Plan

SLOW = 600
"""Seconds that a test file may take."""

Tests = dict[str, dict[str, Any]]
"""Of each test, by its name for pytest, the seconds and the lines."""


class Relevance:
    """What every test runs of the files, taken once and kept until the code or the test file is another.

    Arguments:
        kept: The file that it is kept in.
    """

    def __init__(self, plan: Plan, kept: Path) -> None:
        self._kept, self._lock = kept, threading.Lock()
        known = json.loads(kept.read_text()) if kept.exists() else {}
        code, self._files = plan.digest(), plan.files([])
        self._keys = {name: f"{code} {digest}" for name, digest in plan.test_files().items()}
        self._known: dict[str, Any] = {n: one for n, one in known.items() if one["key"] == self._keys.get(n)}

    def missing(self) -> list[str]:
        """Test files of which nothing is known."""
        return [name for name in self._keys if name not in self._known]

    def record(self, copy: Copy, name: str) -> None:
        """Runs a test file; all its tests must pass."""
        answer = copy.run(["-q", "-x", name], SLOW, self._files)
        if answer.code not in (0, 5) or answer.recorded is None:
            raise SystemExit(f"{name}: must pass before anything is mutated.\n{answer.said}")
        with self._lock:
            self._known[name] = {"key": self._keys[name], "tests": answer.recorded}
            self._kept.write_text(json.dumps(self._known))

    def of(self, mutant: Mutant, seconds: float) -> Tests:
        """The tests that run a mutant, the quickest first, as many as take ``seconds``."""
        found = sorted(self._running(mutant), key=lambda each: each[1]["seconds"])
        chosen, left = {}, seconds
        for name, test in found:
            left -= test["seconds"]
            if chosen and left < 0:
                break
            chosen[name] = test
        return chosen

    def _running(self, mutant: Mutant) -> Iterable[tuple[str, dict[str, Any]]]:
        runs = _within(mutant)
        for file in self._known.values():
            for name, test in file["tests"].items():
                if runs(test["lines"].get(mutant.file, [])):
                    yield name, test


def _within(mutant: Mutant) -> Callable[[list[int]], bool]:
    if mutant.lines is None:
        return bool
    first, last = mutant.lines
    return lambda lines: any(first <= line <= last for line in lines)
