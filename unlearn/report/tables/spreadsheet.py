"""Text in CSV files that a spreadsheet shows and does not run.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, whoever wrote it, and
may pass over blanks before it. Such a cell begins with an apostrophe here, which spreadsheets take for "this
is text"; and so does one that begins with an apostrophe itself, so that :func:`text` gives back what went in.
"""

from __future__ import annotations

import re

_RUN = re.compile("[\\s\0]*[=+\\-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
                  "\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}']|[\t\r\n]")  # fmt: skip
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cell(value: object) -> object:
    """What to write for a value: numbers as they are, also those in text."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value) or not _RUN.match(value):
        return value
    return f"'{value}"


def text(cell: str) -> str:
    """The text that :func:`cell` made a cell of."""
    return cell.removeprefix("'")
