"""The comparison as a Markdown table."""

from __future__ import annotations

import re

from unlearn.report.tabulate import Cell, Section
from unlearn.report.wording import interval, number, title

_ARROWS = {"lower": "↓", "higher": "↑"}


def table(section: Section) -> str:
    """A table with a line for each method, and 95 % intervals or standard deviations over seeds."""
    heads = []
    for key, unit in section.units.items():
        heads.append(f"{escape(title(key))}{f' ({unit})' if unit else ''} {_ARROWS[section.better[key]]}")
    lines = [_line(["Method", *heads]), _line(["---", *("---:" for _ in heads)])]
    for row in section.rows:
        if row.kind != "run":
            name = f"*{row.label}*" if row.kind == "original" else _code(row.label)
            seeds = f" ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else ""
            cells = [_cell(row.cells.get(key), unit) for key, unit in section.units.items()]
            lines.append(_line([name + seeds, *cells]))
    return "\n".join([*lines, ""])


def escape(text: str) -> str:
    """Text on one line, of which nothing is taken for Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>&#])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text on one line, set as code: between more backticks than it has in a row."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(cell: Cell | None, unit: str) -> str:
    if cell is None:
        return ""
    value = number(cell.value, unit)
    if cell.sd is not None:
        return f"{value} ± {number(cell.sd, unit, like=cell.value)}"
    if cell.interval is not None:
        return f"{value} [{interval(cell.interval, unit).replace(' to ', ', ')}]"
    return value
