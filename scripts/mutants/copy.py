"""A copy of the tree, in which a mistake is made and tests are run: never in the user's own files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from scripts.mutants.mutant import Mutant
from scripts.mutants.plan import ROOT, Plan

LEFT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "outputs", "multirun", "wandb", "build", "dist"
)


@dataclass(frozen=True)
class Answer:
    """What came of a call of pytest.

    Attributes:
        code: What it ended with; None if time was over.
        recorded: For each test its seconds and the lines that it ran, if they were to be recorded.
        said: The end of what it printed.
    """

    code: int | None
    recorded: dict[str, Any] | None
    said: str


class Copy:
    """A copy of a tree with a warm process in it.

    Arguments:
        folder: Where it lies; must not exist.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.root, self._later = folder / "tree", count(1)
        shutil.copytree(plan.root, self.root, ignore=LEFT)
        if not (self.root / "scripts" / "mutants").exists():
            shutil.copytree(ROOT / "scripts" / "mutants", self.root / "scripts" / "mutants", ignore=LEFT)
        golden = os.environ.get("UNLEARN_GOLDEN", str(plan.root.parent / "shared" / "golden"))
        own = {
            "PYTHONPATH": str(self.root),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "UNLEARN_GOLDEN": golden,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.mutants.worker", str(folder), *plan.preload],
            cwd=self.root,
            env={**os.environ, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt is for the driver, which then lets it end
            text=True,
        )

    def run(self, arguments: list[str], seconds: float, files: list[str] | None = None) -> Answer:
        """Calls pytest, and records the lines of ``files`` if there are any."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"arguments": arguments, "seconds": seconds, "files": files or []}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process in {self.root} has ended with {self._process.wait()}")
        return Answer(**json.loads(line))

    @contextmanager
    def mistaken(self, mutant: Mutant) -> Iterator[None]:
        """The tree with a mutant, while the block lasts."""
        path = self.root / mutant.file
        source, times = path.read_bytes(), path.stat()
        path.write_bytes(mutant.applied(source))
        # No two mutants of one time: by time and size Python knows what it has compiled.
        os.utime(path, (times.st_atime, int(times.st_mtime) + 10 * next(self._later)))
        try:
            yield
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
