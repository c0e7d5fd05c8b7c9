"""Reading the prompts of a concept from its CSV file.

A file may have a million rows, and is asked for once for each role and stage: it is read once as long as it
stays as it is, and kept by columns.

Its rows are of two halves: what is reported is of ``test``, and what methods, attacks and thresholds are
tuned on is of ``dev``. A file without the column ``split`` is ``test`` as a whole.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from unlearn.errors import ConfigError, unknown

ROLES = ("plain", "synonym", "implicit", "neighbour", "unrelated")
COLUMNS = ("role", "prompt", "seed", "shows")
SPLITS = ("test", "dev")

Row = tuple[str, int, str]
"""Prompt, seed and label."""


@dataclass
class Rows:
    """The rows of one role and half, in the order of the file.

    Attributes:
        prompts: The texts.
        seeds: Seed of each image's noise, in 64 bits.
        shows: The detector's label for what each image should show.
    """

    prompts: list[str] = field(default_factory=list)
    seeds: array[int] = field(default_factory=lambda: array("q"))
    shows: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Row]:
        return zip(self.prompts, self.seeds, self.shows, strict=True)


Halves = Mapping[str, Mapping[str, Rows]]
"""Rows by half and role."""


def read_prompts(name: str, search: Sequence[str | Path] = (), split: str = "test") -> Mapping[str, Rows]:
    """Reads ``<name>.csv`` from the first folder of ``search`` that has it, else from the packaged ones.

    Arguments:
        split: Which half of it, one of :data:`SPLITS`.

    Returns:
        Prompt, seed and label of each row, by role.

    Raises:
        ConfigError: If there is no such file, a column is missing, a row is wrong, a text is in both halves,
            or there is no row in this one.
    """
    path = _find(name, search)
    about = path.stat()
    found = _read(path, (about.st_mtime_ns, about.st_size, about.st_ino))[split]
    if not any(map(len, found.values())):
        raise ConfigError(
            f"eval.split: {path} has no prompts of the half '{split}'. Give it the column 'split', with "
            "'dev' for the prompts to tune on and 'test' for those to report with."
        )
    return found


@lru_cache(maxsize=4)
def _read(path: Path, state: tuple[int, ...]) -> Halves:  # noqa: ARG001
    """The rows of a file as it was in a ``state``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = _parsed(str(path), csv.reader(file, strict=True))
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as CSV ({error}).") from None
    test, dev = ({text for rows in found[split].values() for text in rows.prompts} for split in SPLITS)
    if both := test & dev:
        raise ConfigError(
            f"{path}: {len(both)} prompts are both to tune on and to report with, as '{min(both)}'. Give all "
            "rows of a text one split."
        )
    return found


def _parsed(path: str, lines: Iterator[list[str]]) -> Halves:
    columns = next(lines, [])
    if missing := [column for column in COLUMNS if column not in columns]:
        raise ConfigError(
            f"{path}: column {', '.join(missing)} is missing, got {', '.join(columns) or 'none'}."
        )
    places = [columns.index(column) for column in COLUMNS]
    half = columns.index("split") if "split" in columns else None
    found = {split: {role: Rows() for role in ROLES} for split in SPLITS}
    labels: dict[str, str] = {}  # few, and said in every row
    number = 1
    for line in lines:
        if not line:
            continue
        number += 1
        if len(line) != len(columns):
            raise ConfigError(
                f"{path}: row {number}: must have {len(columns)} fields. Put a prompt with commas in double "
                "quotes."
            )
        role, prompt, seed, shows = [line[place] for place in places]
        if (halves := found.get(split := SPLITS[0] if half is None else line[half])) is None:
            raise ConfigError(f"{path}: row {number}: {unknown('split', split, SPLITS)}")
        if (rows := halves.get(role)) is None:
            raise ConfigError(f"{path}: row {number}: {unknown('role', role, ROLES)}")
        if not prompt or prompt.isspace():
            raise ConfigError(f"{path}: row {number}: the prompt is empty.")
        if (whole := seed_of(seed)) is None:
            raise ConfigError(
                f"{path}: row {number}: seed must be a whole number from 0 to 2**63 - 1, got '{seed[:40]}'."
            )
        rows.prompts.append(prompt)
        rows.seeds.append(whole)
        rows.shows.append(labels.setdefault(shows, shows))
    if number == 1:
        raise ConfigError(f"{path}: the prompt set is empty.")
    return MappingProxyType({split: MappingProxyType(halves) for split, halves in found.items()})


def seed_of(text: str) -> int | None:
    """A seed as it is written in a file; None if it is none."""
    if not (text.isascii() and text.isdigit()) or len(text) > 4000:  # which Python would not read
        return None
    return seed if (seed := int(text)) < 2**63 else None


def _find(name: str, search: Sequence[str | Path]) -> Path:
    for given in search:
        if not Path(given).is_dir():
            raise ConfigError(f"paths.prompts: there is no folder {given}.")
    folders = [Path(given) for given in search]
    folders.append(Path(str(files("unlearn").joinpath("data", "prompts"))))
    known = []
    for folder in folders:
        if (path := folder.joinpath(f"{name}.csv")).is_file():
            return path
        if folder.is_dir():
            known += [
                entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv")
            ]
    raise ConfigError(f"concept.prompts: {unknown('prompt set', name, set(known))}")
