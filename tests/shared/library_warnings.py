"""What libraries warn of while the tests run: one line at the end. Our own warnings fail the test instead."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from unlearn.system.heard import library

_ROOT = Path(__file__).resolve().parents[2]
_heard: Counter[str] = Counter()


def pytest_warning_recorded(warning_message):
    path = Path(warning_message.filename)
    inside = path.is_relative_to(_ROOT) and ".venv" not in path.parts
    # A library may have a warning counted to the line that called it.
    _heard[f"through {path.relative_to(_ROOT)}" if inside else library(str(path))] += 1


def pytest_terminal_summary(terminalreporter):
    if _heard:
        each = ", ".join(f"{name} {count}" for name, count in _heard.most_common())
        terminalreporter.write_line(f"{_heard.total()} warnings of libraries: {each}")
