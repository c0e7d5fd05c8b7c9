"""Runs the methods of a table on pocket and writes it to ``docs/results``.

Usage: ``python -m scripts.reproduce [TABLE] [--methods M ...]``, as in ``closed_form``. Runs
that are there already are not repeated, so a table is brought up to date at the cost of what has changed.
Methods without a table are run for the first that has them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearn.report import write_comparison
from unlearn.results import PlaceEntry, Results, ScoreEntry, read_results

DOCS = Path("docs/results")


@dataclass(frozen=True)
class Sweep:
    """Runs of every method on every concept with every seed, with settings of their own."""

    methods: tuple[str, ...]
    concepts: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    settings: tuple[str, ...] = ("eval=standard",)

    def run(self, methods: Iterable[str]) -> list[Path]:
        """The folders of the runs of some of its methods, each made unless it is there."""
        chosen = [method for method in self.methods if method in methods]
        if not chosen:
            return []
        words = [
            "-m", f"method={','.join(chosen)}", f"concept={','.join(self.concepts)}",
            f"seed={','.join(map(str, self.seeds))}", *self.settings, "model=pocket", "tracker=none",
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
        sweeps: Its runs; a table for each concept, a row for each method.
        attacked: Runs that are also attacked, in tables of their own.
        sequence: Methods that erase one concept after another.
        returning: Runs that measure how fast the concept comes back.
    """

    title: str
    text: str
    sweeps: tuple[Sweep, ...] = ()
    attacked: tuple[Sweep, ...] = ()
    sequence: tuple[Sweep, ...] = ()
    returning: tuple[Sweep, ...] = ()

    @property
    def parts(self) -> tuple[tuple[Sweep, ...], ...]:
        """All of its runs, by what is made of them."""
        return self.sweeps, self.attacked, self.sequence, self.returning

    @property
    def methods(self) -> list[str]:
        """Every method, each once."""
        every = [method for part in self.parts for sweep in part for method in sweep.methods]
        return list(dict.fromkeys(every))


CLOSED_FORM = (
    "none", "uce", "uce_2023", "rece", "mace", "trce", "realera",
    "sld", "safree", "negative_prompt",
)  # fmt: skip
TRAINED = (
    "none", "uce_2023", "esd", "esd_u", "advunlearn", "doco", "rg", "duge",
    "concept_ablation", "salun", "spm", "forget_me_not", "erasediff", "selective_amnesia",
)  # fmt: skip
ATTACKED = (
    "eval=standard",
    "+attack@eval.attacks.unlearndiffatk=unlearndiffatk", "eval.attacks.unlearndiffatk.prompts=32",
    "+attack@eval.attacks.p4d=p4d", "eval.attacks.p4d.prompts=32",
)  # fmt: skip
ROBUSTNESS = ("none", "esd", "uce", "uce_2023", "rece", "advunlearn", "salun")
TABLES = {
    "closed_form": Table(
        "Closed-form and sampling-time methods on pocket",
        "Each method with the values of its own configuration, one seed.",
        (Sweep(CLOSED_FORM, ("church", "nudity", "neon")),),
    ),
    "trained": Table(
        "Trained methods on pocket",
        "Each method with the values of its own configuration, one seed of the erasure unless more are told.",
        (Sweep(TRAINED, ("nudity", "church")),),
        (
            Sweep(("uce_2023",), ("nudity",), settings=ATTACKED),
            Sweep(("esd", "advunlearn"), ("nudity",), (0, 1, 2), ATTACKED),
        ),
        (Sweep(("uce_2023", "rece", "esd", "duge"), ("sequence",), settings=("eval=quick",)),),
    ),
    "robustness": Table(
        "Attacks and resurgence on pocket",
        "Each method with the values of its own configuration, one seed. Attacks that ask the denoiser may "
        "ask it equally often for each prompt; random tokens are their control.",
        attacked=(Sweep(ROBUSTNESS, ("nudity", "church"), settings=("eval=robust",)),),
        returning=(Sweep(ROBUSTNESS, ("nudity", "church"), settings=("eval=resurgence",)),),
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


def attack_costs(folders: list[Path]) -> list[str]:
    """What each attack spent, a row for each run."""
    runs = [read_results(folder) for folder in folders]
    names = list(dict.fromkeys(one["name"] for run in runs for one in run.get("attacks", ())))
    if not names:
        return []
    lines = [
        f"| Method | Concept | Seed | {' | '.join(f'`{name}`' for name in names)} |",
        f"| --- | --- | ---: |{' ---: |' * len(names)}",
    ]
    for run in runs:
        spent = {one["name"]: f"{one['unet_forwards']:.0f}" for one in run.get("attacks", ())}
        cells = " | ".join(spent.get(name, "-") for name in names)
        lines.append(f"| `{run['method']}` | {run['concept']} | {run['seed']} | {cells} |")
    return ["U-Net forwards that the attacks spent on each prompt, on average:", "\n".join(lines)]


def returns(folders: list[Path]) -> str:
    """A table for each way of coming back, a row for each run."""
    runs = [read_results(folder) for folder in folders]
    tables = []
    for name in dict.fromkeys(curve["name"] for run in runs for curve in run.get("resurgence", ())):
        found = [(run, curve) for run in runs for curve in run.get("resurgence", ()) if curve["name"] == name]
        points = found[0][1]["points"]
        lines = [
            f"**`{name}`: images that show the concept (%), by {found[0][1]['axis']}:**\n",
            f"| Method | Concept | {' | '.join(point['label'] for point in points)} | Half at |",
            f"| --- | --- |{' ---: |' * (len(points) + 1)}",
        ]
        for run, curve in found:
            half = "-" if curve["half"] is None else f"{curve['half']:g}"
            cells = [_cell(point) for point in curve["points"]]
            lines.append(f"| `{run['method']}` | {run['concept']} | {' | '.join(cells)} | {half} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


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


def _cell(entry: ScoreEntry | PlaceEntry | None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    low, high = entry["interval"] or (None, None)
    return f"{entry['value']:.1f}" + ("" if low is None else f" [{low:.1f}, {high:.1f}]")


def compared(folders: list[Path]) -> str:
    """A table of the scores for each concept."""
    with tempfile.TemporaryDirectory() as folder:
        write_comparison(folders, Path(folder), ("concept",))
        return (Path(folder) / "table.md").read_text(encoding="utf-8").strip()


def page(name: str, table: Table, runs: Sequence[list[Path]]) -> str:
    """The Markdown of a table.

    Arguments:
        runs: The folders of each of its :attr:`Table.parts`.
    """
    plain, attacked, sequences, returning = runs
    parts = [
        f"# {table.title}",
        "Pocket is a test bed: none of this is a result on Stable Diffusion.\n"
        f"{table.text} 95 % intervals in brackets. Made by `make reproduce-{name.replace('_', '-')}`.",
    ]
    if plain:
        parts += [f"`{' '.join(table.sweeps[0].settings)}`", compared(plain)]
    if attacked:
        settings = " ".join(table.attacked[0].settings)
        text = "Random tokens are the control of the attacks."
        parts += ["## Under attack", f"`{settings}`. {text}", compared(attacked), *attack_costs(attacked)]
    if costly := [*plain, *attacked]:
        parts += ["## Cost of the erasure", costs(costly)]
    if sequences:
        settings = " ".join(table.sequence[0].settings)
        parts += ["## One concept after another", f"`concept=sequence {settings}`", curves(sequences)]
    if returning:
        settings = " ".join(table.returning[0].settings)
        parts += ["## Coming back", f"`{settings}`", returns(returning)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", nargs="?", choices=TABLES)
    parser.add_argument("--methods", nargs="+", help="only these, without writing the file")
    arguments = parser.parse_args()
    wanted = set(arguments.methods or ())
    names = [arguments.table] if arguments.table else [n for n, t in TABLES.items() if wanted <= {*t.methods}]
    if not arguments.table and not wanted:
        parser.error(f"TABLE or --methods: needs one. Tables: {', '.join(TABLES)}")
    if not names or wanted - {*TABLES[names[0]].methods}:
        parser.error(f"--methods: no table has {', '.join(sorted(wanted))} together.")
    name, table = names[0], TABLES[names[0]]
    methods = arguments.methods or table.methods
    runs = [[folder for sweep in part for folder in sweep.run(methods)] for part in table.parts]
    text = page(name, table, runs)
    if arguments.methods:
        print(text)
    else:
        DOCS.mkdir(parents=True, exist_ok=True)
        file = DOCS / f"{name}.md"
        file.write_text(text, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
