"""``unlearn report``: the report of one run, or the comparison of several."""

from __future__ import annotations

import argparse
from pathlib import Path

from unlearn.errors import ConfigError
from unlearn.system.writing import check_writable


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn report``."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--out", type=Path, help="folder for the comparison (default: comparison, beside that of the runs)"
    )
    parser.add_argument(
        "--by", nargs="+", choices=("model", "concept"), default=(), help="a table for each model or concept"
    )


def main(arguments: argparse.Namespace) -> None:
    """Writes ``report.html`` into the folder of a single run, or a comparison; prints its path."""
    from unlearn.report import write_comparison, write_report
    from unlearn.report.page import check_ours

    for run in arguments.runs:
        if not run.is_dir():
            raise ConfigError(f"report: {run} is no folder. Give the folders of finished runs.")
    if len(arguments.runs) == 1 and arguments.out is None:
        check_writable(arguments.runs[0], "report")
        check_ours(arguments.runs[0] / "report.html")
        print(write_report(arguments.runs[0]))
    else:
        out = arguments.out or arguments.runs[0].resolve().parent.parent / "comparison"
        check_writable(out, "report: --out")
        print(write_comparison(arguments.runs, out, arguments.by))
