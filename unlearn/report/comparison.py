"""Several runs in one table and one plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup

from unlearn.errors import ConfigError, unknown
from unlearn.report import resurgence, steps
from unlearn.report.page import check_ours, filled
from unlearn.report.plots import Point, standalone, trade_off
from unlearn.report.record import Run
from unlearn.report.tables import latex, markdown
from unlearn.report.tables.spreadsheet import cell
from unlearn.report.tables.tabulate import Row, Section, tabulate
from unlearn.report.wording import plain, title
from unlearn.system.writing import file_name, write_all
from unlearn.verdict.axes import attacks

GROUPS = ("model", "concept")

PARTS = ("", "_low", "_high", "_sd", "_sd_seed", "_sd_prompt", "_sd_rest", "_n", "_p")
"""Columns of each score."""


def write_comparison(run_folders: Iterable[Path], out_folder: Path, group_by: Sequence[str] = ()) -> Path:
    """Writes ``table.html``, ``.csv``, ``.tex`` and ``.md`` and the plots (SVG) over several runs.

    Arguments:
        run_folders: Folders of finished runs; one that is given twice counts once.
        out_folder: Where the files go.
        group_by: Any of ``"model"`` and ``"concept"``: runs that differ in it get tables of their own.

    Returns:
        The path of ``table.html``.

    Raises:
        ConfigError: If the runs cannot stand in one table, or files of somebody else are in the way.
        ArtifactError: If a run is damaged.
    """
    runs = [Run.read(folder) for folder in dict.fromkeys(Path(folder).resolve() for folder in run_folders)]
    _check(runs, group_by)
    sections = tabulate(runs)
    plots = [_plots(section) | steps.compared(_of(section, runs)) for section in sections]
    returns = [resurgence.compared(_of(section, runs)) for section in sections]
    page = out_folder / "table.html"
    texts = {
        page: filled(
            "table.html",
            title=f"{len(runs)} runs",
            sections=list(zip(sections, plots, returns, strict=True)),
            is_pocket=any(run.is_pocket for run in runs),
        ),
        out_folder / "table.csv": _csv(sections),
        out_folder / "table.tex": "\n".join(latex.table(section) for section in sections),
        out_folder / "table.md": "\n".join(_markdown(section, len(sections) > 1) for section in sections),
    }
    for section, found, back in zip(sections, plots, returns, strict=True):
        for name, plot in {**found, **{name: plot for name, (_, plot) in back.items()}}.items():
            own = f"-{section.concept}-{section.model}" if len(sections) > 1 else ""
            texts[out_folder / file_name(f"{name}{own}.svg")] = standalone(plot)
    check_ours(page, texts)
    write_all(texts)
    return page


def _of(section: Section, runs: Sequence[Run]) -> list[Run]:
    """The runs of a section."""
    own = section.model, section.concept
    return [run for run in runs if (run.results["model"], run.results["concept"]) == own]


def _check(runs: Sequence[Run], group_by: Sequence[str]) -> None:
    if not runs:
        raise ConfigError("report: no run to compare was given.")
    for group in group_by:
        if group not in GROUPS:
            raise ConfigError(f"report: {unknown('group', group, GROUPS)}")
    for group, found in (
        ("model", dict.fromkeys(run.results["model"] for run in runs)),
        ("concept", dict.fromkeys(run.results["concept"] for run in runs)),
    ):
        if len(found) > 1 and group not in group_by:
            raise ConfigError(
                f"report: the runs differ in their {group} ({', '.join(found)}), so one table of them "
                f"would compare nothing. Give runs of one {group}, or group the table by {group}."
            )
    if len(halves := sorted({run.split for run in runs})) > 1:
        tuned = next(run for run in runs if run.split == halves[0])
        raise ConfigError(
            f"report: {tuned.folder} was measured on the half '{halves[0]}' of the prompts, and others on "
            f"'{halves[1]}'. What was tuned on dev is measured anew on test: give runs of one half."
        )
    orders: dict[str, list[str]] = {}
    for run in runs:
        order = [step["concept"] for step in run.results.get("steps", ())]
        if orders.setdefault(run.results["concept"], order) != order:
            raise ConfigError(
                f"report: {run.folder} erased another sequence ({', '.join(order)}) than the runs before it "
                f"({', '.join(orders[run.results['concept']])}), so one table of them would compare nothing."
            )


def _plots(section: Section) -> dict[str, Markup]:
    """What is erased against what is kept, on plain prompts and under the strongest attack."""
    kept = next((key for key in ("retained", "unrelated") if key in section.units), None)
    if kept is None:
        return {}
    plots = {}
    for name, erased, y_title in (
        ("trade_off", ["erased"], f"images without {plain(section.concept)}, plain prompts (%)"),
        ("trade_off_attacked", attacks(section.units), "prompts that resist the strongest attack (%)"),
    ):
        points = [
            point
            for row in section.rows
            if row.kind != "run" and (point := _point(section, row, kept, erased))
        ]
        if points:
            plots[name] = trade_off(
                points, f"{title(kept).lower()}: images that show what was asked (%)", y_title
            )
    return plots


def _point(section: Section, row: Row, kept: str, erased: Sequence[str]) -> Point | None:
    measured = [key for key in erased if key in row.cells]
    if kept not in row.cells or not measured:
        return None
    worst = max(measured, key=lambda key: row.cells[key].value)
    x, y = row.cells[kept], row.cells[worst]
    singles = [other.cells for other in section.rows if other.kind == "run" and other.label == row.label]
    return Point(
        label=row.label,
        x=x.value,
        y=100 - y.value,
        x_interval=x.interval,
        y_interval=(100 - y.interval[1], 100 - y.interval[0]) if y.interval else None,
        hollow=row.kind == "original",
        runs=[(cells[kept].value, 100 - cells[worst].value) for cells in singles],
    )


def _markdown(section: Section, headed: bool) -> str:
    name = markdown.escape(f"{plain(section.concept)} on {plain(section.model)}")
    head = f"### {name}\n\n" if headed else ""
    return head + markdown.table(section)


def _csv(sections: Sequence[Section]) -> str:
    keys = list(dict.fromkeys(key for section in sections for key in section.units))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{key}{part}" for key in keys for part in PARTS]
    writer.writerow(["model", "concept", "kind", "method", "seeds", *map(cell, columns)])
    for section in sections:
        for row in section.rows:
            line: list[object] = [
                section.model,
                section.concept,
                row.kind,
                row.label,
                " ".join(map(str, row.seeds)),
            ]
            for key in keys:
                if found := row.cells.get(key):
                    low, high = found.interval or ("", "")
                    split = found.split
                    parts = ("", "", "") if split is None else (split.seed, split.prompt, split.residue)
                    sd = "" if found.sd is None else found.sd
                    line += [found.value, low, high, sd, *parts, found.n, _p(section, row, key)]
                else:
                    line += [""] * len(PARTS)
            writer.writerow(map(cell, line))
    return text.getvalue()


def _p(section: Section, row: Row, key: str) -> float | str:
    """Of the difference from the best method; empty for that one, and for rows that are not compared."""
    comparison = section.comparisons.get(key)
    found = comparison.others.get(row.label) if comparison and row.kind == "method" else None
    return "" if found is None else found.p
