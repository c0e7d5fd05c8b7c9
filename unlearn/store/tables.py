"""Tables of numbers in ``results.json``."""

from __future__ import annotations

from typing import TypedDict


class TableEntry(TypedDict):
    """A table, or a curve: then its first column is where the curve stands, and rises.

    Attributes:
        columns: What each column counts.
        rows: What each row is about.
        values: A list for each row with a number for each column; None where there is none.
    """

    columns: list[str]
    rows: list[str]
    values: list[list[float | None]]
