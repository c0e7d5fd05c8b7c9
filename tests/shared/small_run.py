"""Runs in the small world of tests/small_world, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WORLD = Path(__file__).parents[1] / "small_world"
PROGRAM = str(WORLD / "unlearn.py")
RUN = ("run", "--config-dir", str(WORLD), "model=tiny", "eval=tiny", "tracker=none")


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What the command says in ``folder``."""
    return subprocess.run(
        [sys.executable, PROGRAM, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
