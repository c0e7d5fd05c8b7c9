"""The scores of a run as text."""

from __future__ import annotations

from unlearn.report import resurgence, steps
from unlearn.report.conclusion import conclusion
from unlearn.report.wording import count, interval, number, sections
from unlearn.store.layout import Results

_HEADER = ("score", "erased model", "95 % interval", "original", "difference", "better", "n")


def score_table(results: Results) -> str:
    """A table of all scores, to be printed at the end of a run, with the verdict below it."""
    rows = []
    for keys in sections(results["scores"]).values():
        for key in keys:
            score = results["scores"][key]
            unit, original, change = score["unit"], score["original"], score["difference"]
            rows.append(
                (
                    f"{key} ({unit})" if unit else key,
                    number(score["value"], unit),
                    interval(score["interval"], unit),
                    number(original["value"], unit) if original else "",
                    number(change["value"], unit, signed=True) if change else "",
                    "\N{DOWNWARDS ARROW}" if score["better"] == "lower" else "\N{UPWARDS ARROW}",
                    count(score),
                )
            )
    widths = [max(len(row[i]) for row in [_HEADER, *rows]) for i in range(len(_HEADER))]
    rule = "  ".join("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * width for width in widths)
    lines = [_line(_HEADER, widths), rule, *(_line(row, widths) for row in rows)]
    said = [*steps.lines(results), *resurgence.lines(results)]
    return "\n".join([*lines, "", *said, "", str(conclusion(results))])


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    name, *cells = row
    return "  ".join(
        [name.ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells, widths[1:], strict=True))]
    ).rstrip()
