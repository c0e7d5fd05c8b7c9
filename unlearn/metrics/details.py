"""Scores that are more than a number: with a table or a curve beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from unlearn.metrics.score import Score
from unlearn.store.tables import TableEntry


@dataclass(frozen=True)
class Table:
    """A table, or a curve: then its first column is where the curve stands, and rises.

    Attributes:
        columns: What each column counts.
        rows: What each row is about, and its numbers; NaN where there is none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]

    def __post_init__(self) -> None:
        if any(len(values) != len(self.columns) for _, values in self.rows):
            raise ValueError("rows: must have a number for each column")

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[float]]]) -> Table:
        """A table of rows with these columns."""
        return cls(tuple(columns), tuple((name, tuple(values)) for name, values in rows))

    def column(self, name: str) -> list[float]:
        """The numbers of a column."""
        place = self.columns.index(name)
        return [values[place] for _, values in self.rows]

    def to_json(self) -> TableEntry:
        """As in ``results.json``."""
        return {
            "columns": list(self.columns),
            "rows": [name for name, _ in self.rows],
            "values": [[None if math.isnan(one) else one for one in values] for _, values in self.rows],
        }


@dataclass(frozen=True, kw_only=True)
class DetailedScore(Score):
    """A score with tables.

    Attributes:
        details: The tables, by name.
    """

    details: Mapping[str, Table]

    def to_json(self) -> dict[str, Any]:
        """The score's entry in ``results.json``."""
        return super().to_json() | {"details": {name: one.to_json() for name, one in self.details.items()}}


def detailed(score: Score, **details: Table) -> DetailedScore:
    """A score, with tables beside it."""
    said = {field.name: getattr(score, field.name) for field in fields(Score)}
    return DetailedScore(**said, details=details)
