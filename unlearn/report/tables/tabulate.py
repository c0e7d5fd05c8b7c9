"""Runs as the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean, stdev
from typing import TypeVar

from unlearn.errors import ConfigError
from unlearn.report.record import Run, labels
from unlearn.report.tables.outcomes import outcomes
from unlearn.report.tables.significance import Comparison, compare
from unlearn.report.wording import sections, title
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_interval
from unlearn.statistics.seeds import Split, over_seeds
from unlearn.store.layout import Measured, ScoreEntry

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        value: The score; the mean over runs in a row that sums several up.
        interval: Both ends of its 95 % interval. Over several runs it is for other seeds of the erasure as
            well, and None if the score is none of single images.
        sd: Standard deviation over runs; None for one run.
        n: Images of one run.
        split: Over several runs, what the spread of single images is made of, where it can be told.
    """

    value: float
    interval: tuple[float, float] | None
    sd: float | None
    n: int
    split: Split | None = None


@dataclass(frozen=True)
class Row:
    """A run, or the mean over runs that differ in nothing but their seed.

    Attributes:
        kind: ``"original"`` (the unedited model), ``"method"`` or ``"run"`` (one of a method's several).
        label: The method and its changed settings.
        seeds: The seeds of the runs.
        cells: By score key; without those that were not measured.
    """

    kind: str
    label: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Section:
    """The runs of one model and one concept.

    Attributes:
        model: The model.
        concept: The concept.
        units: Unit of each column, by score key and in the order of the columns.
        better: Which way is better, for each column.
        rows: The original model, then each method followed by its runs.
        notes: What a reader has to know before comparing.
        comparisons: By score key, each method that erases beside the best of them.
    """

    model: str
    concept: str
    units: Mapping[str, str]
    better: Mapping[str, str]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    comparisons: Mapping[str, Comparison]

    @property
    def single(self) -> bool:
        """Whether all methods have one seed."""
        return all(len(row.seeds) == 1 for row in self.rows if row.kind == "method")


def tabulate(runs: Sequence[Run]) -> list[Section]:
    """A section for each model and concept, in the order of the runs.

    Raises:
        ConfigError: If two runs of a method share a seed, or a score's definition differs between runs.
    """
    return [
        _section(group) for group in _split(runs, lambda r: f"{r.results['model']}/{r.results['concept']}")
    ]


def _split(items: Iterable[T], key: Callable[[T], str]) -> list[list[T]]:
    groups: dict[str, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _section(runs: Sequence[Run]) -> Section:
    entries: dict[str, list[ScoreEntry]] = {}
    for run in runs:
        for key, score in run.results["scores"].items():
            entries.setdefault(key, []).append(score)
    first = {key: scores[0] for key, scores in entries.items()}
    keys = [key for group in sections(first).values() for key in group]
    names = labels(runs)
    methods = {names[group[0].variant]: group for group in _split(runs, lambda run: run.variant)}
    rows = [row for label, group in methods.items() for row in _rows(group, label)]
    # The original's images are the same for all methods, so each seed counts once.
    by_seed = {run.results["seeds"]["generate"]: run for run in reversed(runs)}
    if cells := _cells([by_seed[seed] for seed in sorted(by_seed)], original=True):
        rows.insert(0, Row("original", "original", tuple(sorted(by_seed)), cells))
    return Section(
        model=runs[0].results["model"],
        concept=runs[0].results["concept"],
        units={key: first[key]["unit"] for key in keys},
        better={key: first[key]["better"] for key in keys},
        rows=tuple(rows),
        notes=(*_tuned(runs), *_notes(entries)),
        comparisons=_comparisons(methods, {key: first[key] for key in keys}),
    )


def _comparisons(
    methods: Mapping[str, Sequence[Run]], scores: Mapping[str, ScoreEntry]
) -> dict[str, Comparison]:
    """Of the rates of single images, among methods that erase."""
    erasing = {label: runs for label, runs in methods.items() if runs[0].results["method"] != "none"}
    found = {
        key: compare({label: outcomes(runs, key) for label, runs in erasing.items()}, score["better"])
        for key, score in scores.items()
        if score["unit"] == "%"
    }
    return {key: comparison for key, comparison in found.items() if comparison is not None}


def _tuned(runs: Sequence[Run]) -> list[str]:
    if any(run.split == "dev" for run in runs):
        return [
            "These runs were measured on the prompts to tune on (eval.split=dev): no number is for a report."
        ]
    return []


def _notes(entries: Mapping[str, Sequence[ScoreEntry]]) -> list[str]:
    notes = []
    for key, scores in entries.items():
        if len({(score["version"], score["unit"]) for score in scores}) > 1:
            raise ConfigError(
                f"report: scores.{key}: the runs hold different versions of it. Repeat the older ones."
            )
        if len(sizes := sorted({score["n"] for score in scores})) > 1:
            notes.append(
                f"{title(key)}: taken over different numbers of images ({', '.join(map(str, sizes))})."
            )
    return notes


def _rows(runs: Sequence[Run], label: str) -> list[Row]:
    """The row of a method and, if it has several runs, theirs."""
    seeds = tuple(run.results["seed"] for run in runs)
    if len(set(seeds)) < len(seeds):
        names = ", ".join(run.results["name"] for run in runs)
        raise ConfigError(
            f"report: the runs {names} have one method and share a seed. Give one run for each seed."
        )
    method = Row("method", label, seeds, _cells(runs))
    if len(runs) == 1:
        return [method]
    return [method, *(Row("run", label, (run.results["seed"],), _cells([run])) for run in runs)]


def _cells(runs: Sequence[Run], original: bool = False) -> dict[str, Cell]:
    """The scores that all of ``runs`` have, of the erased model or of the original one."""
    cells = {}
    for key, score in runs[0].results["scores"].items():
        entries = [run.results["scores"].get(key) for run in runs]
        measured: list[Measured] = []
        for entry in entries:
            found = entry["original"] if original and entry else entry
            if found is not None and found["value"] is not None:
                measured.append({"value": found["value"], "interval": found["interval"]})
        if len(measured) < len(runs):
            continue
        values = [m["value"] for m in measured]
        if len(runs) == 1:
            ends = measured[0]["interval"]
            cells[key] = Cell(values[0], None if ends is None else (ends[0], ends[1]), None, score["n"])
            continue
        interval, split = _over(runs, key, score["unit"], original)
        cells[key] = Cell(fmean(values), interval, stdev(values), score["n"], split)
    return cells


def _over(
    runs: Sequence[Run], key: str, unit: str, original: bool
) -> tuple[tuple[float, float] | None, Split | None]:
    """The interval of a mean over runs, and what its spread is made of.

    The original model is one, whatever the seed: its images are those of all runs together.
    """
    rate = unit == "%"
    factor = 100.0 if rate else 1.0
    found = [outcomes([run], key, "original" if original else "erased").values() for run in runs]
    values = [[value for value, _ in one] for one in found]
    prompts = [[prompt for _, prompt in one] for one in found]
    if not all(values):
        return None, None
    if original:
        together = list(chain.from_iterable(values)), list(chain.from_iterable(prompts))
        ends = (rate_interval if rate else mean_interval)(*together)
        return (None, None) if ends is None else ((factor * ends[0], factor * ends[1]), None)
    mean = over_seeds(values, prompts, rate)
    if mean is None:
        return None, None
    low, high = mean.interval
    parts = Split(*(factor * part for part in (mean.split.seed, mean.split.prompt, mean.split.residue)))
    return (factor * low, factor * high), parts
