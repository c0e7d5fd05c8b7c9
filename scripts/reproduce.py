"""Runs the methods of a table on pocket and writes it to ``docs/results``.

Usage: ``python -m scripts.reproduce [TABLE] [--methods M ...]``, as in ``closed_form``. Runs
that are there already are not repeated, so a table is brought up to date at the cost of what has changed.
Methods without a table are run for the first that has them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.tables import against_control, attack_costs, compared, costs, curves, returns
from unlearn.system.writing import write

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
        closer: Runs that are attacked on more prompts, for what the others leave open.
        sequence: Methods that erase one concept after another.
        returning: Runs that measure how fast the concept comes back.
    """

    title: str
    text: str
    sweeps: tuple[Sweep, ...] = ()
    attacked: tuple[Sweep, ...] = ()
    closer: tuple[Sweep, ...] = ()
    sequence: tuple[Sweep, ...] = ()
    returning: tuple[Sweep, ...] = ()

    @property
    def parts(self) -> tuple[tuple[Sweep, ...], ...]:
        """All of its runs, by what is made of them."""
        return self.sweeps, self.attacked, self.closer, self.sequence, self.returning

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
CLOSER = ("eval=robust", "eval.attacks.random_tokens.prompts=32")
CONTROLLED = (
    "Random tokens are the control of the attacks. Images in which each brings the concept back, all "
    "concepts together, with the interval of the rate (%) and, after the semicolon, the rate's paired "
    "difference from the control's (percentage points):"
)
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
        closer=(Sweep(("esd",), ("nudity", "church"), (0, 1, 2), CLOSER),),
        returning=(Sweep(ROBUSTNESS, ("nudity", "church"), settings=("eval=resurgence",)),),
    ),
}


def page(name: str, table: Table, runs: Sequence[list[Path]]) -> str:
    """The Markdown of a table.

    Arguments:
        runs: The folders of each of its :attr:`Table.parts`.
    """
    plain, attacked, closer, sequences, returning = runs
    parts = [
        f"# {table.title}",
        "Pocket is a test bed: none of this is a result on Stable Diffusion.\n"
        f"{table.text} 95 % intervals in brackets. Made by `make reproduce-{name.replace('_', '-')}`.",
    ]
    if plain:
        parts += [f"`{' '.join(table.sweeps[0].settings)}`", compared(plain)]
    if attacked:
        settings = " ".join(table.attacked[0].settings)
        parts += ["## Under attack", f"`{settings}`. {CONTROLLED}", against_control(attacked)]
        parts += [compared(attacked), *attack_costs(attacked)]
    if closer:
        settings = " ".join(table.closer[0].settings)
        parts += ["## A closer look", f"`{settings}`. {CONTROLLED}", against_control(closer)]
        parts += attack_costs(closer)
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
        print(write(DOCS / f"{name}.md", text))


if __name__ == "__main__":
    main()
