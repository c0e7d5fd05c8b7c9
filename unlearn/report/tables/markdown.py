"""The comparison as a Markdown table."""

from __future__ import annotations

import re

from unlearn.report.tables.tabulate import Cell, Section
from unlearn.report.wording import interval, number, probability, title

_ARROWS = {"lower": "↓", "higher": "↑"}


def table(section: Section) -> str:
    """A table with a line for each method, 95 % intervals and standard deviations over seeds; below it, which
    of them differ from the best.
    """
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
    return "\n".join([*lines, "", *_comparisons(section)])


def _comparisons(section: Section) -> list[str]:
    """A line for each method and score, against the best of the score."""
    if not section.comparisons:
        return []
    lines = [
        "Beside the best of each score, on the same prompts and seeds (p: McNemar's exact test over prompts, "
        "after Holm for all methods of the score):",
        "",
        _line(["Score", "Best", "Method", "Alone", "Best alone", "Images", "p"]),
        _line(["---", "---", "---", "---:", "---:", "---:", "---"]),
    ]
    for key, comparison in section.comparisons.items():
        for label, found in comparison.others.items():
            p = probability(found.p) + (f" ({found.note})" if found.note else "")
            numbers = [str(found.gained), str(found.lost), str(found.n)]
            lines.append(_line([escape(title(key)), _code(comparison.best), _code(label), *numbers, p]))
    return [*lines, ""]


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
        value += f" ± {number(cell.sd, unit, like=cell.value)}"
    if cell.interval is not None:
        value += f" [{interval(cell.interval, unit).replace(' to ', ', ')}]"
    return value
