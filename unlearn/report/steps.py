"""What a sequence has come to, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from unlearn.report.pictures import data_uri
from unlearn.report.plots import Line, by_step
from unlearn.report.record import Run, labels
from unlearn.report.wording import plain, quantity
from unlearn.store.layout import Measured, Results, ScoreEntry, StepEntry

SO_FAR = "erased, still shown"
KEPT = {"retained": "neighbours kept", "unrelated": "unrelated kept"}
_KEPT_TITLES = tuple((key, f"{name} (%)") for key, name in KEPT.items())


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        measured: It, in percent; None if it was not measured.
        n: Images that it was taken over.
        state: ``"gone"`` for a concept that is to be gone by then, ``"waiting"`` for one that is not, else
            empty.
    """

    measured: Measured | None
    n: int
    state: str = ""


@dataclass(frozen=True)
class Strip:
    """What one prompt and seed give after every step.

    Attributes:
        prompt: The text.
        pictures: Data URIs, the original model's first, and whether each is to be enlarged pixel by pixel.
    """

    prompt: str
    pictures: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Progress:
    """The section of a report on a sequence.

    Attributes:
        columns: Heads of the table, each with its number of images; None where that changes by step.
        rows: The original model, then each step: its name, its cells, and its drift in percent.
        plots: Each concept by step; and what is erased so far, beside what is kept.
        names: The original model, then the concept of each step.
        strips: The first prompt of each concept.
    """

    columns: list[tuple[str, int | None]]
    rows: list[tuple[str, list[Cell], float]]
    plots: list[Markup]
    names: list[str]
    strips: list[Strip]


def section(run: Run) -> Progress | None:
    """The section; None for a run that is no sequence."""
    steps = run.results.get("steps")
    if not steps:
        return None
    concepts = [step["concept"] for step in steps]
    names = ["original", *map(plain, concepts)]
    kept = [key for key in KEPT if key in steps[0]["scores"]]
    before = [*(steps[0]["concepts"].get(name) for name in concepts), None]
    before += [steps[0]["scores"].get(key) for key in kept]
    rows = [("original", [Cell(_original(entry), _count(entry)) for entry in before], 0.0)]
    for number, step in enumerate(steps, start=1):
        cells = []
        for index, name in enumerate(concepts):
            entry = step["concepts"].get(name)
            cells.append(Cell(_erased(entry), _count(entry), "gone" if index < number else "waiting"))
        for key in ("erased", *kept):
            entry = step["scores"].get(key)
            cells.append(Cell(_erased(entry), _count(entry), "gone" if key == "erased" else ""))
        rows.append((f"{number}. {names[number]}", cells, 100 * step["drift"]))
    return Progress(
        columns=_heads([*names[1:], SO_FAR, *(KEPT[key] for key in kept)], rows),
        rows=rows,
        plots=_plots(rows, names, kept),
        names=names,
        strips=_strips(run, len(steps)),
    )


def lines(results: Results) -> list[str]:
    """The steps for the terminal; none for a run that is no sequence."""
    found = []
    for number, step in enumerate(results.get("steps", ()), start=1):
        said = []
        for key, words in {"erased": "still show what is erased", **KEPT}.items():
            if score := step["scores"].get(key):
                said.append(f"{quantity(score['value'], '%')} of {score['n']} {words}")
        found.append(f"After step {number}, {plain(step['concept'])}: {', '.join(said)}")
    return found


def compared(runs: Sequence[Run]) -> dict[str, Markup]:
    """What several methods erase and keep of one sequence, a line each; nothing if the runs are of none.

    A method with several runs has the line of their mean, without intervals.
    """
    sequences = [run.results.get("steps", []) for run in runs]
    if not sequences[0]:
        return {}
    names = ["original", *(plain(step["concept"]) for step in sequences[0])]
    methods: dict[str, list[list[StepEntry]]] = {}
    names_of = labels(runs)
    for run, steps in zip(runs, sequences, strict=True):
        methods.setdefault(names_of[run.variant], []).append(steps)
    found = {}
    for key, title in (("erased", f"{SO_FAR} (%)"), *_KEPT_TITLES):
        lines = [
            Line(
                label,
                [mean(found) for found in zip(*(_curve(steps, key) for steps in several), strict=True)],
            )
            for label, several in methods.items()
        ]
        if any(value is not None for line in lines for value in line.values):
            found[f"steps_{key}"] = by_step(lines, names, title)
    return found


def _curve(steps: Sequence[StepEntry], key: str) -> list[Measured | None]:
    """A score of the original model, where that does not differ from step to step, and after each step."""
    entries = [step["scores"].get(key) for step in steps]
    original = None if key == "erased" else _original(entries[0])
    return [original, *map(_erased, entries)]


def mean(several: Sequence[Measured | None]) -> Measured | None:
    """Of several runs, without an interval; the only one as it is; None where one of them has nothing."""
    known = [one for one in several if one is not None]
    if len(known) < len(several):
        return None
    interval = known[0]["interval"] if len(known) == 1 else None
    return {"value": fmean(one["value"] for one in known), "interval": interval}


def _heads(
    names: Sequence[str], rows: Sequence[tuple[str, list[Cell], float]]
) -> list[tuple[str, int | None]]:
    counts = [{cells[i].n for _, cells, _ in rows} for i in range(len(names))]
    return [
        (name, count.pop() if len(count) == 1 else None) for name, count in zip(names, counts, strict=True)
    ]


def _erased(entry: ScoreEntry | None) -> Measured | None:
    if entry is None or entry["value"] is None:
        return None
    return {"value": entry["value"], "interval": entry["interval"]}


def _original(entry: ScoreEntry | None) -> Measured | None:
    return None if entry is None else entry["original"]


def _count(entry: ScoreEntry | None) -> int:
    return 0 if entry is None else entry["n"]


def _plots(
    rows: Sequence[tuple[str, list[Cell], float]], names: Sequence[str], kept: Sequence[str]
) -> list[Markup]:
    """Each concept by step; and all that is erased so far, with what is kept."""
    columns = [[cells[i].measured for _, cells, _ in rows] for i in range(len(rows[0][1]))]
    count = len(names) - 1
    each = [
        Line(name, column, gone_from=step)
        for step, (name, column) in enumerate(zip(names[1:], columns, strict=False), start=1)
    ]
    heads = [SO_FAR, *(KEPT[key] for key in kept)]
    together = [Line(head, column) for head, column in zip(heads, columns[count:], strict=True)]
    return [
        by_step(each, names, "images that show the concept (%)"),
        by_step(together, names, "images that show what was asked (%)"),
    ]


def _strips(run: Run, steps: int) -> list[Strip]:
    """The first plain prompts, as many as there are concepts: prompt sets take the concepts in turn."""
    artifacts = run.results["artifacts"]
    keys = ["images:original:plain", *(f"step{n}:images:erased:plain" for n in range(1, steps))]
    folders = [artifacts[key]["path"] for key in [*keys, "images:erased:plain"] if key in artifacts]
    found = []
    for item in run.items:
        if item["prompts"] == "plain" and item["model"] == "erased" and item["index"] < steps:
            paths = [run.folder / folder / Path(item["image"]).name for folder in folders if folder]
            pictures = tuple(data_uri(path, run.is_explicit) for path in paths)
            found.append(Strip(item["prompt"], pictures))
    return found
