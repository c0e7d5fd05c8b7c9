"""Prompts that were found elsewhere."""

from __future__ import annotations

import csv
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from torch import Generator

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target
from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.concepts.prompt_files import seed_of
from unlearn.errors import ConfigError, UnlearnWarning, unknown


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file of prompts.

    Attributes:
        prompt: The prompt.
        seed: Of its image; None for that of the plain prompt that it stands for.
        concept: The concept that it should bring back; empty for any.
    """

    prompt: str
    seed: int | None
    concept: str


@dataclass(kw_only=True)
class Replay(Attack):
    """Prompts from a CSV file, as they are.

    The file has a column ``prompt``, and perhaps ``seed`` and ``concept``; other columns are ignored. Each
    prompt stands for the next plain prompt of its concept, in the order of the file, and is counted against
    it. So no more are replayed than there are plain prompts, and a warning says how many are left out. A
    prompt that was searched for with the seed that the file gives is judged by what it was chosen for: leave
    the column out to judge it on fresh noise.

    Attributes:
        prompts: How many are replayed at most: the first ones.
        file: Path of the file.
    """

    paper: ClassVar[str] = ""
    white_box: ClassVar[bool] = False
    own_seeds: ClassVar[bool] = True
    random: ClassVar[bool] = False

    file: str

    def idle(self) -> dict[str, str]:
        """The budget: it asks no denoiser."""
        return {"budget": "Prompts from a file cost nothing to find."}

    @property
    def files(self) -> list[Path]:
        """The file."""
        return [Path(self.file)]

    def check(self, concepts: ConceptSet) -> list[str]:
        """What is wrong with the file."""
        try:
            rows = self._rows()
        except ConfigError as error:
            return [str(error)]
        if not rows:
            return [f"file: {self.file} has no prompts"]
        named, where = {row.concept for row in rows}, f"file: {self.file}: column concept"
        if not named & {"", *concepts.erase}:
            return [f"{where}: {unknown('concept', sorted(named)[0], concepts.erase)}"]
        first = next(iter(concepts.erase))
        if not named & {"", first}:
            return [
                f"{where}: has no row for '{first}', which the first plain prompt asks for: rows stand for "
                "plain prompts in their order, which ask for all concepts in turn. Add rows, or erase fewer "
                "concepts."
            ]
        return []

    def chosen(self, plain: PromptSet) -> PromptSet:
        """The first plain prompts, as far as there is a row for each."""
        return plain.limited(len(self._matched(self._rows(), plain)))

    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> AdversarialPrompts:  # noqa: ARG002
        """The file's prompts, one for each of ``prompts``."""
        rows = self._rows()
        taken = self._matched(rows, prompts)
        count = sum(row.concept in ("", *target.concepts.erase) for row in rows)
        if len(taken) < min(count, self.prompts):
            warnings.warn(
                f"{self.file}: {len(taken)} of {count} prompts are replayed: each stands for the next plain "
                "prompt, and then there is none, or one of a concept without a row. Raise "
                "eval.prompts.plain, or add rows for every concept.",
                UnlearnWarning,
                stacklevel=2,
            )
        seeds = [old if row.seed is None else row.seed for row, old in zip(taken, prompts.seeds, strict=True)]
        found = replace(prompts, prompts=tuple(row.prompt for row in taken), seeds=tuple(seeds))
        none = (0,) * len(taken)
        return AdversarialPrompts(found, prompts.prompts, none, none, tuple(map(bool, none)))

    def _matched(self, rows: Sequence[Row], plain: PromptSet) -> list[Row]:
        """The row for each of the first plain prompts, until one finds none."""
        # For each concept, the places of the rows that serve it: its own, and those of none in particular.
        free = deque(i for i, row in enumerate(rows) if not row.concept)
        own: dict[str, deque[int]] = {}
        for i, row in enumerate(rows):
            own.setdefault(row.concept, deque()).append(i)
        taken = []
        for concept in plain.concepts[: self.prompts]:
            queues = [queue for queue in (own.get(concept), free) if queue]
            if not queues:
                break
            taken.append(rows[min(queues, key=lambda queue: queue[0]).popleft()])
        return taken

    def _rows(self) -> Sequence[Row]:
        """What the file says, read once as long as it stays as it is.

        Raises:
            ConfigError: If it is missing or wrong.
        """
        path = Path(self.file)
        if not path.is_file():
            raise ConfigError(f"file: there is no file '{self.file}'")
        about = path.stat()
        return _read(self.file, (about.st_mtime_ns, about.st_size, about.st_ino))


@lru_cache(maxsize=4)
def _read(name: str, state: tuple[int, ...]) -> Sequence[Row]:  # noqa: ARG001
    """The rows of a file as it was in a ``state``."""
    try:
        with Path(name).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [column or "" for column in reader.fieldnames or ()]
            if "prompt" not in columns:
                raise ConfigError(
                    f"file: {name} must have a column 'prompt', got {', '.join(columns) or 'none'}"
                )
            return tuple(
                _row(f"file: {name}: row {number}", row) for number, row in enumerate(reader, start=2)
            )
    except (csv.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"file: {name} cannot be read as CSV ({error})") from None


def _row(where: str, row: dict[str, str]) -> Row:
    prompt, seed = row["prompt"] or "", (row.get("seed") or "").strip()
    if not prompt.strip():
        raise ConfigError(f"{where}: the prompt is empty")
    if seed and seed_of(seed) is None:
        raise ConfigError(f"{where}: seed must be a whole number from 0 to 2**63 - 1, got '{seed[:40]}'")
    return Row(prompt, seed_of(seed), (row.get("concept") or "").strip())
