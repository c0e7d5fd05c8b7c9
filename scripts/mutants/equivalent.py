"""Mutants that no test can tell from the code, each with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from scripts.mutants.mutant import Mutant

HERE = Path(__file__).parent / "equivalent.yaml"


@dataclass(frozen=True)
class Equivalent:
    """A mutant that is none, by its lines without indentation.

    Attributes:
        file: Where it is.
        was: The lines as they are.
        becomes: The lines of the mutant.
        why: Why nothing is another for it.
    """

    file: str
    was: str
    becomes: str
    why: str


def equivalents(path: Path, root: Path) -> list[Equivalent]:
    """All of a list.

    Raises:
        SystemExit: If one is about lines that its file no longer has.
    """
    found = [Equivalent(**entry) for entry in yaml.safe_load(path.read_text()) or []]
    for one in found:
        lines = (root / one.file).read_text().splitlines() if (root / one.file).exists() else []
        if one.was not in " ".join(line.strip() for line in lines):
            raise SystemExit(f"{path}: {one.file} has no line '{one.was}' any more.")
    return found


def reason(mutant: Mutant, source: bytes, known: list[Equivalent]) -> str:
    """Why a mutant is none; empty if it is one."""
    key = (mutant.file, *mutant.change(source))
    return next((one.why for one in known if (one.file, one.was, one.becomes) == key), "")
