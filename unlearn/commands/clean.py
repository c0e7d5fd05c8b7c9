"""``unlearn clean``: what the outputs hold, and what of it is removed."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from unlearn.errors import ConfigError
from unlearn.store.outputs import Leaving, remove, survey, unreferenced

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn clean``."""
    parser.epilog = (
        "Without an option it only lists. Files that are not the program's own, and what a living process "
        "works on, are never touched."
    )
    parser.add_argument("outputs", nargs="?", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument(
        "--unreferenced",
        action="store_true",
        help="artifacts that no finished run refers to, or only those that go",
    )
    parser.add_argument(
        "--leftovers",
        action="store_true",
        help="what killed runs left: half-written files, locks, their folders",
    )
    parser.add_argument(
        "--scratch", action="store_true", help="unfinished work, which the same run would go on with"
    )
    parser.add_argument(
        "--runs", nargs="+", default=[], metavar="GLOB", help="folders of these runs, as in 'rece-*'"
    )
    parser.add_argument(
        "--older-than",
        type=seconds,
        default=0.0,
        metavar="AGE",
        help="of these only what is older, as in 7d or 12h",
    )
    parser.add_argument("--yes", action="store_true", help="without asking")


def seconds(text: str) -> float:
    """An age such as ``7d``.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([mhdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a number of m, h, d or w, as in 7d, got '{text}'")
    return float(match[1]) * UNITS[match[2]]


def main(arguments: argparse.Namespace) -> None:
    """Lists what there is, or removes what was asked for after saying what that is.

    Raises:
        ConfigError: If the folder is none of outputs, a name fits no run, or nobody has agreed.
    """
    outputs = arguments.outputs.resolve()
    found = survey(outputs)
    chosen = select(found, arguments)
    if not (arguments.unreferenced or arguments.leftovers or arguments.scratch or arguments.runs):
        _list(found, outputs)
        return
    going = [one for one in chosen if not _keeps(one, outputs)]
    if not going:
        print("There is nothing to remove.")
        return
    print("To be removed:")
    _show(going, outputs)
    if not arguments.yes and not _agreed():
        raise ConfigError("clean: nothing was removed. Say --yes to remove what is listed above.")
    for one in going:
        remove(one)
        for path in one.strange:
            print(f"Not the program's own, and left: {path.relative_to(outputs)}")
    print(f"Removed {size(sum(one.size for one in going))}.")


def select(found: Sequence[Leaving], arguments: argparse.Namespace) -> list[Leaving]:
    """What was asked for, as far as it is old enough.

    Raises:
        ConfigError: If a name fits no run.
    """
    folders = [one for one in found if one.kind == "run"]
    for glob in arguments.runs:
        if not any(fnmatchcase(one.path.name, glob) for one in folders):
            raise ConfigError(
                f"clean: --runs: no run is called '{glob}'. Say unlearn clean to see their names."
            )
    runs = [
        one
        for one in folders
        if any(fnmatchcase(one.path.name, glob) for glob in arguments.runs)
        and one.age >= arguments.older_than
        and not one.held
    ]
    wanted = {one.path for one in runs}
    if arguments.unreferenced:
        wanted |= {one.path for one in unreferenced(found, runs)}
    if arguments.leftovers:
        wanted |= {one.path for one in found if one.serves_nobody}
    if arguments.scratch:
        wanted |= {one.path for one in found if one.kind == "scratch"}
    return [one for one in found if one.path in wanted and one.age >= arguments.older_than]


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def age(seconds: float) -> str:
    """An age in its largest unit."""
    for unit, length in reversed(UNITS.items()):
        if unit != "w" and seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return "now"


def _keeps(one: Leaving, outputs: Path) -> bool:
    """Says of what was asked for and stays why it does."""
    name = one.path.relative_to(outputs)
    if one.held:
        print(f"In use, and kept: {name}")
    elif one.strange and one.kind != "run":
        print(f"Kept for what is not the program's own in it: {one.strange[0].relative_to(outputs)}")
    else:
        return False
    return True


def _agreed() -> bool:
    """Asks, where there is somebody to ask."""
    if not sys.stdin.isatty():
        return False
    print("Remove all of this? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _list(found: Sequence[Leaving], outputs: Path) -> None:
    """Everything, and what the options would remove."""
    _show(found, outputs, {one.path for one in unreferenced(found)})
    for option, part in (
        ("--unreferenced", unreferenced(found)),
        ("--leftovers", [one for one in found if one.serves_nobody]),
        ("--scratch", [one for one in found if one.kind == "scratch"]),
    ):
        if part:
            print(f"{option} would remove {len(part)} of these, {size(sum(one.size for one in part))}.")


def _show(found: Sequence[Leaving], outputs: Path, unused: frozenset[Path] | set[Path] = frozenset()) -> None:
    for one in sorted(found, key=lambda one: (one.kind, one.path)):
        said = [one.note, "no run refers to it" if one.path in unused else "", "in use" if one.held else ""]
        note = ", ".join(text for text in said if text)
        name = str(one.path.relative_to(outputs))
        print(f"{one.kind:<9}{age(one.age):>6}{size(one.size):>10}  {name}{f'  ({note})' if note else ''}")
    print(f"{len(found)} in all, {size(sum(one.size for one in found))}.")
