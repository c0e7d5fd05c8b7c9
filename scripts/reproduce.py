"""Runs the methods of a table on pocket and writes it to ``docs/results``.

Usage: ``python -m scripts.reproduce [TABLE] [--methods M ...] [--eval NAME]``, as in ``closed_form``. Runs
that are there already are not repeated, so a table is brought up to date at the cost of what has changed.
Methods without a table are run for the first that has them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from unlearn.report import write_comparison
from unlearn.results import Results, ScoreEntry, read_results

DOCS = Path("docs/results")


@dataclass(frozen=True)
class Sweep:
    """Runs of every method on every concept with every seed."""

    methods: tuple[str, ...]
    concepts: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)

    def run(self, methods: Iterable[str], evaluation: str) -> list[Path]:
        """The folders of the runs of some of its methods, each made unless it is there."""
        chosen = [method for method in self.methods if method in methods]
        if not chosen:
            return []
        words = [
            "-m", f"method={','.join(chosen)}", f"concept={','.join(self.concepts)}",
            f"seed={','.join(map(str, self.seeds))}", f"eval={evaluation}", "model=pocket", "tracker=none",
        ]  # fmt: skip
        command = [str(Path(sys.executable).with_name("unlearn")), "run", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            folders = []
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.strip().endswith("results.json"):
                    folders.append(Path(line.strip()).parent)
        if process.returncode:
            raise SystemExit(f"reproduce: {' '.join(command)} ended with {process.returncode}.")
        return folders


@dataclass(frozen=True)
class Table:
    """What stands in one file.

    Attributes:
        title: Its headline.
        text: What a reader has to know.
        evaluation: Name of the evaluation.
        sweeps: Its runs; a table for each concept, a row for each method.
        sequence: Methods that erase one concept after another.
    """

    title: str
    text: str
    evaluation: str
    sweeps: tuple[Sweep, ...]
    sequence: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """Every method, each once."""
        every = [method for sweep in self.sweeps for method in sweep.methods]
        return list(dict.fromkeys([*every, *self.sequence]))


CLOSED_FORM = (
    "none", "uce", "uce_2023", "rece", "mace", "trce", "realera",
    "sld", "safree", "negative_prompt",
)  # fmt: skip
TRAINED = (
    "none", "uce_2023", "esd", "advunlearn", "doco", "rg", "duge",
    "concept_ablation", "salun",
)  # fmt: skip
TABLES = {
    "closed_form": Table(
        "Closed-form and sampling-time methods on pocket",
        "Each method with the values of its own configuration, one seed.",
        "standard",
        (Sweep(CLOSED_FORM, ("church", "nudity", "neon")),),
    ),
    "trained": Table(
        "Trained methods on pocket",
        "Each method with the values of its own configuration; three seeds of the erasure for AdvUnlearn and "
        "ESD on nudity, one for all else. P4D and UnlearnDiffAtk are white-box attacks, random tokens their "
        "control.",
        "robust",
        (
            Sweep(TRAINED, ("nudity", "church")),
            Sweep(("esd", "advunlearn"), ("nudity",), (1, 2)),
        ),
        ("uce_2023", "rece", "esd", "duge"),
    ),
}


def costs(folders: list[Path]) -> str:
    """A table of what each erasure cost."""
    lines = [
        "| Method | Concept | Seed | Seconds | U-Net forwards | Numbers changed |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for folder in folders:
        results = read_results(folder)
        cost = results["cost"]
        lines.append(
            f"| `{results['method']}` | {results['concept']} | {results['seed']} "
            f"| {cost['erase_seconds']:.2f} | {cost['unet_forwards']:,} | {cost['parameters_changed']:,} |"
        )
    return "\n".join(lines)


def curves(folders: list[Path]) -> str:
    """A table for each score that is taken after every step of a sequence, a row for each method."""
    runs = [read_results(folder) for folder in folders]
    tables = []
    for key, title in (
        ("erased", "Erased concepts that are shown"),
        ("retained", "Neighbours kept"),
        ("unrelated", "Unrelated kept"),
    ):
        order = [step["concept"] for step in runs[0]["steps"]]
        lines = [
            f"**{title} (%), after each step:**\n",
            f"| Method | {' | '.join(f'{i}. {name}' for i, name in enumerate(order, start=1))} |",
            f"| --- |{' ---: |' * len(order)}",
        ]
        lines += [f"| `{run['method']}` | {' | '.join(_cells(run, key))} |" for run in runs]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _cells(run: Results, key: str) -> list[str]:
    return [_cell(step["scores"].get(key)) for step in run["steps"]]


def _cell(entry: ScoreEntry | None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    low, high = entry["interval"] or (None, None)
    return f"{entry['value']:.1f}" + ("" if low is None else f" [{low:.1f}, {high:.1f}]")


def page(name: str, table: Table, evaluation: str, folders: list[Path], sequences: list[Path]) -> str:
    """The Markdown of a table."""
    with tempfile.TemporaryDirectory() as folder:
        write_comparison(folders, Path(folder), ("concept",))
        scores = (Path(folder) / "table.md").read_text(encoding="utf-8")
    parts = [
        f"# {table.title}",
        "Pocket is a test bed: none of this is a result on Stable Diffusion.\n"
        f"{table.text} `eval={evaluation}`; 95 % intervals in brackets. Made by "
        f"`make reproduce-{name.replace('_', '-')}`.",
        scores.strip(),
        "## Cost of the erasure",
        costs(folders),
    ]
    if sequences:
        parts += ["## One concept after another", "`concept=sequence eval=quick`.", curves(sequences)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="?", choices=TABLES)
    parser.add_argument("--methods", nargs="+", help="only these, without writing the file")
    parser.add_argument("--eval")
    arguments = parser.parse_args()
    wanted = set(arguments.methods or ())
    names = [arguments.table] if arguments.table else [n for n, t in TABLES.items() if wanted <= {*t.methods}]
    if not arguments.table and not wanted:
        parser.error(f"TABLE or --methods: needs one. Tables: {', '.join(TABLES)}")
    if not names or wanted - {*TABLES[names[0]].methods}:
        parser.error(f"--methods: no table has {', '.join(sorted(wanted))} together.")
    name, table = names[0], TABLES[names[0]]
    methods, evaluation = arguments.methods or table.methods, arguments.eval or table.evaluation
    folders = [folder for sweep in table.sweeps for folder in sweep.run(methods, evaluation)]
    sequences = Sweep(table.sequence, ("sequence",)).run(methods, "quick")
    text = page(name, table, evaluation, folders, sequences)
    if arguments.methods:
        print(text)
    else:
        DOCS.mkdir(parents=True, exist_ok=True)
        file = DOCS / f"{name}.md"
        file.write_text(text, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
