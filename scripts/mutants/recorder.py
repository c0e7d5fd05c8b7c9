"""Which lines each test runs, as a plugin of pytest."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest


class Recorder:
    """Notes, for every test, its seconds and the lines of some files that it runs.

    Arguments:
        files: Relative to the root, by where they lie.
    """

    def __init__(self, files: dict[str, str]) -> None:
        self.files = files
        self.tests: dict[str, dict[str, Any]] = {}
        self._lines: dict[str, set[int]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around a test with all that is set up for it."""
        self._lines = {}
        start = time.monotonic()
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            lines = {file: sorted(found) for file, found in self._lines.items()}
            self.tests[item.nodeid] = {"seconds": round(time.monotonic() - start, 3), "lines": lines}

    def _called(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:  # noqa: ARG002
        file = self.files.get(frame.f_code.co_filename)
        if file is None or frame.f_code.co_name == "<module>":
            return None
        seen = self._lines.setdefault(file, set())

        def line(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
            if event == "line":
                seen.add(frame.f_lineno)
            return line

        seen.add(frame.f_lineno)
        return line
