"""Plots as inline SVG. Colours are set by classes, so that a plot follows the page's light or dark theme."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unlearn.report.wording import number
from unlearn.store.layout import Measured, ScoreEntry

# The second colour of each pair is for a plot in a file of its own.
_STYLE = Markup(
    "<style>svg.plot{font:11px system-ui,sans-serif}.plot .grid{stroke:var(--line,#dfe3e8);stroke-width:1}"
    ".plot text{fill:var(--muted,#5b6675)}.plot .name{fill:var(--ink,#18212f);font-weight:600}</style>"
)


def interval_plot(score: ScoreEntry) -> Markup:
    """Original (hollow, above) and erased (filled, below) on one scale, with their intervals.

    Percentages share the scale from 0 to 100; any other score has one of its own.
    """
    width, height, pad = 220, 36, 8
    if score["value"] is None:
        return Markup("")
    erased: Measured = {"value": score["value"], "interval": score["interval"]}
    measures: list[tuple[str, float, Measured]] = [("erased", 24.0, erased)]
    if score["original"] is not None:
        measures.insert(0, ("original", 12.0, score["original"]))
    if score["unit"] == "%":
        low, high = 0.0, 100.0
        ticks = [0.0, 25.0, 50.0, 75.0, 100.0]
    else:
        ends = [x for _, _, m in measures for x in (m["value"], *(m["interval"] or ()))]
        margin = 0.08 * ((max(ends) - min(ends)) or abs(max(ends)) or 1.0)
        low, high = min(ends) - margin, max(ends) + margin
        ticks = []

    def x(value: float) -> float:
        return round(pad + (width - 2 * pad) * (min(max(value, low), high) - low) / (high - low), 1)

    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="2" y2="{1}"/>').format(x(t), height - 2)
        for t in ticks
    ]
    if not ticks:
        line = '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
        parts.append(Markup(line).format(pad, width - pad, y=height / 2))
    for name, y, measured in measures:
        if (ends_of := measured["interval"]) is not None:
            line = '<line class="{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
            parts.append(Markup(line).format(name, x(ends_of[0]), x(ends_of[1]), y=y))
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"/>').format(name, x(measured["value"]), y)
        )
    label = ", ".join(f"{name} {number(m['value'], score['unit'])}" for name, _, m in measures)
    return _svg(label, parts, width, height)


def curve(name: str, values: Mapping[float, float]) -> Markup:
    """A logged value by step, thinned to what a small plot can show."""
    width, height, left, right, top, bottom = 360, 170, 52, 12, 12, 26
    steps = _thinned(sorted(values))
    first, last = steps[0], steps[-1]
    ticks = _ticks(min(values.values()), max(values.values()))
    low, high = min(ticks[0], *values.values()), max(ticks[-1], *values.values())

    def x(step: float) -> float:
        return round(left + (width - left - right) * ((step - first) / ((last - first) or 1)), 1)

    def y(value: float) -> float:
        return round(height - bottom - (height - top - bottom) * ((value - low) / ((high - low) or 1)), 1)

    parts = [_level(left, width - right, y(tick), f"{tick:g}") for tick in ticks]
    for step, anchor in ((first, "start"), (last, "end")):
        text = '<text x="{}" y="{}" text-anchor="{}">{}</text>'
        parts.append(Markup(text).format(x(step), height - 8, anchor, f"{step:g}"))
    middle = '<text x="{}" y="{}" text-anchor="middle">step</text>'
    parts.append(Markup(middle).format((left + width - right) / 2, height - 8))
    points = " ".join(f"{x(step)},{y(values[step])}" for step in steps)
    parts.append(Markup('<polyline class="curve" points="{}"/>').format(points))
    return _svg(f"{name} by step", parts, width, height)


@dataclass(frozen=True)
class Point:
    """One method in the trade-off plot.

    Attributes:
        label: Its name.
        x: Share of images that keep what was asked, in percent.
        y: Share of images that no longer show the concept, in percent.
        x_interval: Both ends of the interval of ``x``; None if there is none.
        y_interval: Likewise for ``y``.
        hollow: Whether it is the unedited model.
        runs: Where its single runs lie, if it stands for several.
    """

    label: str
    x: float
    y: float
    x_interval: Sequence[float] | None
    y_interval: Sequence[float] | None
    hollow: bool = False
    runs: Sequence[tuple[float, float]] = ()


def trade_off(points: Sequence[Point], x_title: str, y_title: str) -> Markup:
    """Methods by what they erase and what they keep: the upper right corner is the best.

    The horizontal axis begins where the points do, the vertical one at 0.
    """
    width, height, left, right, top, bottom = 720, 440, 58, 190, 18, 50
    lowest = min(end for point in points for end in (point.x, *(point.x_interval or ())))
    first = min(80, max(0, 10 * math.floor((lowest - 2) / 10)))

    def x(value: float) -> float:
        return round(left + (width - left - right) * (min(max(value, first), 100) - first) / (100 - first), 1)

    def y(value: float) -> float:
        return round(height - bottom - (height - top - bottom) * min(max(value, 0), 100) / 100, 1)

    parts = [_STYLE]
    parts += [_level(left, width - right, y(tick), str(tick)) for tick in range(0, 101, 20)]
    for tick in range(first, 101, 5 if first >= 60 else 10 if first >= 20 else 20):
        line = '<line class="grid" x1="{x}" x2="{x}" y1="{}" y2="{}"/>'
        text = '<text x="{x}" y="{}" text-anchor="middle">{}</text>'
        parts.append(Markup(line + text).format(top, height - bottom, height - bottom + 17, tick, x=x(tick)))
    title = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
    parts.append(Markup(title).format((left + width - right) / 2, height - 10, x_title))
    turned = '<text transform="translate(15 {}) rotate(-90)" text-anchor="middle">{}</text>'
    parts.append(Markup(turned).format((top + height - bottom) / 2, y_title))
    for index, point in enumerate(points):
        parts += _marks(point, _colour(index), x, y)
        at_x, at_y = width - right + 26, top + 14 + 22 * index
        name = '<text class="name" x="{}" y="{}">{}</text>'
        parts.append(_dot(_colour(index), at_x, at_y, point.hollow))
        parts.append(Markup(name).format(at_x + 14, at_y + 4, point.label))
    return _svg(f"{y_title} against {x_title}", parts, width, height)


def _marks(
    point: Point, colour: str, x: Callable[[float], float], y: Callable[[float], float]
) -> list[Markup]:
    """A point with its error bars and the single runs behind it."""
    small = '<circle cx="{}" cy="{}" r="3" fill="{}" opacity="0.55"/>'
    marks = [Markup(small).format(x(run_x), y(run_y), colour) for run_x, run_y in point.runs]
    bar = '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="{}" stroke-width="1.6" opacity="0.6"/>'
    if ends := point.x_interval:
        marks.append(Markup(bar).format(x(ends[0]), x(ends[1]), y(point.y), y(point.y), colour))
    if ends := point.y_interval:
        marks.append(Markup(bar).format(x(point.x), x(point.x), y(ends[0]), y(ends[1]), colour))
    return [*marks, _dot(colour, x(point.x), y(point.y), point.hollow)]


def _dot(colour: str, x: float, y: float, hollow: bool = False, size: int = 6) -> Markup:
    fill = "var(--page, #fff)" if hollow else colour
    dot = '<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="{}" stroke-width="2"/>'
    return Markup(dot).format(x, y, size, fill, colour)


@dataclass(frozen=True)
class Line:
    """One number after every step of a sequence.

    Attributes:
        label: Its name.
        values: In percent, of the original model and after each step; None where it was not measured.
        gone_from: The step after which the concept should be gone: the line is faint before; None if it is no
            concept.
        start: The place of the model as it is, whose point is hollow.
    """

    label: str
    values: Sequence[Measured | None]
    gone_from: int | None = None
    start: int = 0


def by_step(
    lines: Sequence[Line],
    names: Sequence[str],
    y_title: str,
    x_title: str = "erased one after another",
) -> Markup:
    """Lines over the steps of a sequence, or other places in order, from 0 to 100 %.

    Arguments:
        names: The original model, then what each step did; numbers stand for them where there are many.
        x_title: What the names are.
    """
    width, height, left, right, top, bottom = 720, 330, 58, 170, 16, 46
    few = len(names) <= 8

    def x(step: float) -> float:
        return round(left + 14 + (width - left - right - 28) * step / max(1, len(names) - 1), 1)

    def y(value: float) -> float:
        return round(height - bottom - (height - top - bottom) * min(max(value, 0), 100) / 100, 1)

    parts = [_STYLE, *(_level(left, width - right, y(tick), str(tick)) for tick in range(0, 101, 20))]
    text = '<text x="{}" y="{}" text-anchor="middle">{}</text>'
    for step, name in enumerate(names):
        parts.append(Markup(text).format(x(step), height - bottom + 18, name if few else step))
    said = x_title if few else "steps"
    parts.append(Markup(text).format((left + width - right) / 2, height - 8, said))
    turned = '<text transform="translate(15 {}) rotate(-90)" text-anchor="middle">{}</text>'
    parts.append(Markup(turned).format((top + height - bottom) / 2, y_title))
    bar = '<line x1="{x}" x2="{x}" y1="{}" y2="{}" stroke="{}" stroke-width="1.4" opacity="0.45"/>'
    way = (
        '<polyline points="{}" fill="none" stroke="{}" stroke-width="2" opacity="{}" stroke-dasharray="{}"/>'
    )
    for index, line in enumerate(lines):
        colour, aside = _colour(index + 1), 3.0 * (index - (len(lines) - 1) / 2)
        at = [
            (step, measured, (x(step) + aside, y(measured["value"])))
            for step, measured in enumerate(line.values)
            if measured is not None
        ]
        first = 0 if line.gone_from is None else line.gone_from
        for solid in (False, True):
            run = [point for step, _, point in at if (step >= first if solid else step <= first)]
            points = " ".join(f"{a},{b}" for a, b in run)
            parts.append(Markup(way).format(points, colour, 1 if solid else 0.5, "none" if solid else "3 4"))
        for step, measured, point in at:
            if measured["interval"] is not None:
                ends = (y(end) for end in measured["interval"])
                parts.append(Markup(bar).format(*ends, colour, x=point[0]))
            parts.append(_dot(colour, *point, hollow=step < first or step == line.start, size=4))
        below = top + 8 + 20 * index
        parts.append(_dot(colour, width - right + 24, below, size=5))
        parts.append(
            Markup('<text class="name" x="{}" y="{}">{}</text>').format(
                width - right + 36, below + 4, line.label
            )
        )
    return _svg(f"{y_title} by step", parts, width, height)


def standalone(plot: Markup) -> str:
    """A plot for a file of its own, in the light theme: few programs besides browsers know CSS variables."""
    return re.sub(r"var\(--\w+, ?(#\w+)\)", r"\1", str(plot))


def _svg(label: str, parts: Iterable[Markup], width: int, height: int) -> Markup:
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {w} {h}" width="{w}" height="{h}"'
        ' role="img" aria-label="{}">{}</svg>'
    ).format(label, Markup("").join(parts), w=width, h=height)


def _level(left: float, right: float, y: float, label: str) -> Markup:
    """A horizontal grid line with its label."""
    line = '<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>'
    text = '<text x="{}" y="{}" text-anchor="end">{}</text>'
    return Markup(line + text).format(left, right, left - 7, y + 4, label, y=y)


def _colour(index: int) -> str:
    """Colours that stay apart for most colour-blind readers and on both themes (after Okabe and Ito)."""
    return ("#7a8699", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8455c2")[index % 8]


def _thinned(steps: Sequence[float], most: int = 400) -> list[float]:
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers around a range."""
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / 3))
    size = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= 5)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [round(i * size, 12) for i in range(first, max(last, first + 1) + 1)]
