"""Runs the methods of a table on pocket and writes it to ``docs/results``.

Usage: ``python -m scripts.reproduce TABLE [--methods M ...] [--eval NAME]``, as in ``closed_form``. Runs
that are there already are not repeated, so a table is brought up to date at the cost of what has changed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from unlearn.report import write_comparison
from unlearn.results import read_results

DOCS = Path("docs/results")


@dataclass(frozen=True)
class Table:
    """What stands in one file.

    Attributes:
        title: Its headline.
        methods: A row each.
        concepts: A table each.
        text: What a reader has to know.
    """

    title: str
    methods: tuple[str, ...]
    concepts: tuple[str, ...]
    text: str


TABLES = {
    "closed_form": Table(
        "Closed-form and sampling-time methods on pocket",
        (
            "none", "uce", "uce_2023", "rece", "mace", "trce", "realera",
            "sld", "safree", "negative_prompt",
        ),
        ("church", "nudity", "neon"),
        "Each method with the values of its own configuration, one seed.",
    ),
}  # fmt: skip


def run(methods: list[str], concepts: tuple[str, ...], evaluation: str) -> list[Path]:
    """The folders of the runs, each made unless it is there."""
    words = [
        "-m", f"method={','.join(methods)}", f"concept={','.join(concepts)}", f"eval={evaluation}",
        "model=pocket", "tracker=none",
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


def costs(folders: list[Path]) -> str:
    """A table of what each erasure cost."""
    lines = [
        "| Method | Concept | Seconds | U-Net forwards | Numbers changed |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for folder in folders:
        results = read_results(folder)
        cost = results["cost"]
        lines.append(
            f"| `{results['method']}` | {results['concept']} | {cost['erase_seconds']:.2f} "
            f"| {cost['unet_forwards']:,} | {cost['parameters_changed']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--methods", nargs="+", help="only these, without writing the file")
    parser.add_argument("--eval", default="standard")
    arguments = parser.parse_args()
    table = TABLES[arguments.table]
    if arguments.methods and (unknown := set(arguments.methods) - set(table.methods)):
        parser.error(f"--methods: {', '.join(sorted(unknown))} not in {', '.join(table.methods)}")
    folders = run(arguments.methods or list(table.methods), table.concepts, arguments.eval)
    with tempfile.TemporaryDirectory() as folder:
        write_comparison(folders, Path(folder), ("concept",))
        scores = (Path(folder) / "table.md").read_text(encoding="utf-8")
    page = "\n".join(
        [
            f"# {table.title}",
            "",
            "Pocket is a test bed: none of this is a result on Stable Diffusion.",
            f"{table.text} `eval={arguments.eval}`; 95 % intervals in brackets. Made by "
            f"`make reproduce-{arguments.table.replace('_', '-')}`.",
            "",
            scores,
            "## Cost of the erasure",
            "",
            costs(folders),
            "",
        ]
    )
    if arguments.methods:
        print(page)
    else:
        DOCS.mkdir(parents=True, exist_ok=True)
        file = DOCS / f"{arguments.table}.md"
        file.write_text(page, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
