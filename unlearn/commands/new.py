"""``unlearn new``: a component of one's own to begin with, that already does something."""

from __future__ import annotations

import argparse
import re
import shlex
from importlib.resources import files
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path

from unlearn.commands import KINDS
from unlearn.commands.files import options
from unlearn.errors import ConfigError
from unlearn.plugins.names import outside
from unlearn.plugins.spelling import snake
from unlearn.system.writing import check_writable, write

PLACES = {"attack": "eval.attacks", "metric": "eval.metrics"}
"""Where a component goes in a run, if that is not a choice of its own."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn new``."""
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "name", metavar="NAME", help="small letters, digits and underscores, as in blur_edges"
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="where its files go (default: here)")
    parser.epilog = (
        "NAME.py holds one class, whose name in small letters is that of the component (BlurEdges is "
        "blur_edges). A run finds it by plugins=[NAME.py], and its YAML in conf/ beside it."
    )


def main(arguments: argparse.Namespace) -> None:
    """Writes the files, and prints what to try next.

    Raises:
        ConfigError: If the name is no good or taken, or a file is there already.
    """
    kind, name, folder = arguments.kind, arguments.name, arguments.folder
    _check_name(kind, name)
    texts = _texts(kind, name, folder)
    check_writable(folder, "new: --folder")
    for path in texts:
        if path.exists():
            raise ConfigError(f"new: {path} exists already, and is not overwritten. Give another name.")
    for path, text in texts.items():
        write(path, text)
        print(f"wrote {path}")
    print("\nTry:")
    for command in _next(kind, name, folder):
        print(f"  {shlex.join(command)}")


def _check_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or snake(_class(name)) != name:
        raise ConfigError(
            f"new: NAME must be words of small letters and digits joined by underscores, got '{name}'."
        )
    if name in {*options(kind), *outside(kind)}:
        raise ConfigError(f"new: the name '{name}' of a {kind} is taken. Choose another.")
    if kind != "concept" and (iskeyword(name) or find_spec(name) is not None):
        raise ConfigError(f"new: a module cannot be called '{name}' beside Python's and the installed ones.")


def _texts(kind: str, name: str, folder: Path) -> dict[Path, str]:
    """What is written, by its path."""
    paths = {
        f"{kind}.py.txt": folder / f"{name}.py",
        f"{kind}.yaml.txt": folder / "conf" / kind / f"{name}.yaml",
        f"{kind}_test.py.txt": folder / f"test_{name}.py",
    }
    root = files("unlearn.data.new")
    return {
        path: _filled(root.joinpath(template).read_text(encoding="utf-8"), name)
        for template, path in paths.items()
        if root.joinpath(template).is_file()  # a concept has no class
    }


def _filled(text: str, name: str) -> str:
    for mark, word in (("name", name), ("Class", _class(name)), ("phrase", name.replace("_", " "))):
        text = text.replace(f"@{mark}@", word)
    return text


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _next(kind: str, name: str, folder: Path) -> list[list[str]]:
    """Commands that test the component, show it, and use it in a run and beside others."""
    plugin = f"plugins=[{folder / f'{name}.py'}]"
    test = ["python", "-m", "pytest", str(folder / f"test_{name}.py")]
    run = ["unlearn", "run", "concept=church", "eval=quick"]
    if kind == "concept":
        config = ["--config-dir", str(folder / "conf")]
        return [test, [*run[:2], *config, f"concept={name}", "eval=quick"]]
    show = ["unlearn", "show", f"{kind}={name}", plugin]
    if kind == "method":
        return [test, show, [*run, plugin, f"method={name}"], [*run, "-m", plugin, f"method=esd,{name}"]]
    return [test, show, [*run, plugin, f"+{kind}@{PLACES[kind]}.{name}={name}"]]
