"""The comparison as a LaTeX table."""

from __future__ import annotations

from unlearn.report.tables.tabulate import Cell, Section
from unlearn.report.wording import MINUS, interval, number, plain, probability, title

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    MINUS: "$-$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # which end of a line would take for its own
}


def escape(text: str) -> str:
    """Text on one line, as LaTeX sets it, letter for letter."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def table(section: Section) -> str:
    """A booktabs table, one line for each method; needs ``\\usepackage{booktabs}``."""
    name = " ".join(f"{plain(section.concept)} on {plain(section.model)}".split())
    arrows = {"lower": r"$\downarrow$", "higher": r"$\uparrow$"}
    heads = []
    for key in section.units:
        unit = f" ({section.units[key]})" if section.units[key] else ""
        heads.append(f"{escape(title(key) + unit)} {arrows[section.better[key]]}")
    lines = [
        f"% {name}, with 95 % intervals in brackets, and the",
        "% standard deviation over seeds. Needs \\usepackage{booktabs}.",
        *_comparisons(section),
        rf"\begin{{tabular}}{{l{'r' * len(section.units)}}}",
        r"\toprule",
        " & ".join(["Method", *heads]) + r" \\",
        r"\midrule",
    ]
    for row in section.rows:
        if row.kind == "run":
            continue
        name = escape(row.label) + (f" ({len(row.seeds)} seeds)" if len(row.seeds) > 1 else "")
        cells = [_cell(row.cells.get(key), section.units[key]) for key in section.units]
        lines.append(" & ".join([name, *cells]) + r" \\")
        if row.kind == "original":
            lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _comparisons(section: Section) -> list[str]:
    """What cannot be told from the best of a score, as comments above the table."""
    return [
        f"% {' '.join(title(key).split())}: {' '.join(label.split())} beside {' '.join(found.best.split())}, "
        f"p = {probability(against.p)} (McNemar, Holm)"
        for key, found in section.comparisons.items()
        for label, against in found.others.items()
    ]


def _cell(cell: Cell | None, unit: str) -> str:
    if cell is None:
        return "--"
    value = escape(number(cell.value, unit))
    if cell.sd is not None:
        value += f" $\\pm$ {escape(number(cell.sd, unit, like=cell.value))}"
    if cell.interval is not None:
        ends = escape(interval(cell.interval, unit).replace(" to ", ", "))
        value += f" {{\\scriptsize [{ends}]}}"
    return value
