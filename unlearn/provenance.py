"""Which code and which weights an artifact was made with."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from unlearn import __version__

PACKAGE = Path(__file__).parent
SOURCES = (
    "attacks",
    "concepts.py",
    "curves.py",
    "detectors",
    "evaluation.py",
    "images.py",
    "methods",
    "metrics",
    "models",
    "resurgence",
    "seeding.py",
)
"""The code that artifacts come from."""


def digest(folder: Path) -> str:
    """Tells one folder of weights from another in a moment, wherever it lies.

    Small files are read whole, of large ones 64 pieces of 4 KiB: weights that differ do so nearly everywhere.

    Returns:
        12 hex digits of the SHA-256 of all names, sizes and pieces.
    """
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        found.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        with path.open("rb") as file:
            for start in range(0, size, max(size // 64, 4096)):
                file.seek(start)
                found.update(file.read(4096))
    return found.hexdigest()[:12]


@cache
def code() -> str:
    """The version of the code that artifacts come from.

    A release is known by its number. A development version carries a hash of the sources that can change an
    artifact, so that no commit and no edit before one takes up what other code has made, while work on the
    report or the documentation throws nothing away.
    """
    if "dev" not in __version__:
        return __version__
    found = hashlib.sha256()
    for part in SOURCES:
        path = PACKAGE / part
        for source in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(f"{source.relative_to(PACKAGE).as_posix()}\n".encode() + source.read_bytes())
    return f"{__version__}+{found.hexdigest()[:12]}"
