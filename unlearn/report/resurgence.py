"""How fast an erased concept came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unlearn.report.plots import Line, by_step
from unlearn.report.record import Run, labels
from unlearn.report.steps import mean
from unlearn.report.wording import plain, quantity
from unlearn.store.layout import CurveEntry, Measured, PlaceEntry, Results

Y_TITLE = "images that show the concept (%)"


@dataclass(frozen=True)
class Figure:
    """Curves over the same places.

    Attributes:
        title: Their axis.
        plot: All of them, with the original model where it was drawn from.
        labels: The places, along the axis.
        rows: The original model if it was drawn from at more than the first place, then each curve: its name,
            its points, and the label of the place where half the original's share was reached; empty for the
            original, None if nowhere.
    """

    title: str
    plot: Markup
    labels: list[str]
    rows: list[tuple[str, list[Measured | None], str | None]]


def figures(results: Results) -> list[Figure]:
    """A figure for each axis, with the curves that have the same places; none for a run without curves."""
    groups: dict[tuple[str, ...], list[CurveEntry]] = {}
    for curve in results.get("resurgence", ()):
        key = (curve["axis"], *(point["label"] for point in curve["points"]))
        groups.setdefault(key, []).append(curve)
    return [_figure(key[0], curves) for key, curves in groups.items()]


def lines(results: Results) -> list[str]:
    """The curves for the terminal; none for a run without."""
    found = []
    for curve in results.get("resurgence", ()):
        first, *others = curve["points"]
        # Ties go to the earlier place.
        most = max(others, key=lambda point: -1.0 if point["value"] is None else point["value"])
        said = (
            f"{quantity(first['value'], '%')} of {first['n']} as erased, at most "
            f"{quantity(most['value'], '%')} at {most['label']} ({curve['axis']})"
        )
        half = reached(curve)
        where = "nowhere" if half is None else f"from {half}" if curve["half"] != first["at"] else "as erased"
        said += f"; half of the original's {where}" if _known(first) else ""
        found.append(f"Resurgence, {plain(curve['name'])}: {said}")
    return found


def compared(runs: Sequence[Run]) -> dict[str, tuple[str, Markup]]:
    """How a concept comes back after several methods: for each curve its title, and a plot with a line each.

    Runs whose curves have other places have plots of their own. A method with several runs has the line of
    their mean, without intervals. The original model is a level, as far as it was drawn from.
    """
    names_of = labels(runs)
    groups: dict[tuple[str, ...], dict[str, list[CurveEntry]]] = {}
    for run in runs:
        for one in run.results.get("resurgence", ()):
            key = (one["name"], one["axis"], *(point["label"] for point in one["points"]))
            groups.setdefault(key, {}).setdefault(names_of[run.variant], []).append(one)
    found: dict[str, tuple[str, Markup]] = {}
    for (name, axis, *_), methods in groups.items():
        example = next(iter(methods.values()))[0]["points"]
        order, start = _order(example)
        before = [example[i]["original"] for i in order]
        tested = sum(one is not None for one in before) > 1
        drawn = [Line("original", before if tested else [before[start]] * len(before), gone_from=len(order))]
        for label, several in methods.items():
            values = [[_measured(one["points"][i]) for i in order] for one in several]
            drawn.append(Line(label, [mean(each) for each in zip(*values, strict=True)], start=start))
        plot = by_step(drawn, [example[i]["label"] for i in order], Y_TITLE, axis)
        same = sum(title == plain(name) for title, _ in found.values())
        found[f"back_{name}{f'_{same}' if same else ''}"] = (plain(name), plot)
    return found


def reached(curve: CurveEntry) -> str | None:
    """The label of the place at which half of the original's share is reached first."""
    return next((point["label"] for point in curve["points"] if point["at"] == curve["half"]), None)


def _figure(axis: str, curves: Sequence[CurveEntry]) -> Figure:
    order, start = _order(curves[0]["points"])
    labels = [curves[0]["points"][i]["label"] for i in order]
    rows: list[tuple[str, list[Measured | None], str | None]] = []
    before = [curves[0]["points"][i]["original"] for i in order]
    tested = any(one is not None for i, one in enumerate(before) if i != start)
    if tested:
        rows.append(("original", before, ""))
    for curve in curves:
        values = [_measured(curve["points"][i]) for i in order]
        rows.append((plain(curve["name"]), values, reached(curve)))
    # An original that is not put to the test is a level to compare with.
    level = before if tested else [before[start]] * len(before)
    drawn = [Line("original", level, gone_from=len(labels))]
    drawn += [Line(name, values, start=start) for name, values, half in rows if half != ""]
    return Figure(axis, by_step(drawn, labels, Y_TITLE, axis), labels, rows)


def _order(points: Sequence[PlaceEntry]) -> tuple[list[int], int]:
    """The points along their axis, and where among them the first is: away from it, if it is an end."""
    falling = points[0]["at"] == max(point["at"] for point in points)
    order = sorted(range(len(points)), key=lambda i: points[i]["at"], reverse=falling)
    return order, order.index(0)


def _measured(point: PlaceEntry) -> Measured | None:
    return None if point["value"] is None else {"value": point["value"], "interval": point["interval"]}


def _known(point: PlaceEntry) -> bool:
    return point["original"] is not None and point["original"]["value"] > 0
