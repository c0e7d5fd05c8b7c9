"""Which code, and which versions of the libraries that decide numbers, a result comes from.

Code is followed from the objects at hand: the classes of a method and its parts, of a model, of a detector,
each with its module and all modules of the package that this one imports, directly or through others. The
table of names (:mod:`unlearn.catalogue`) is not on the way, since no component imports it: work on one
method leaves alone what others made. Stages take what other stages made, and so import each other's
modules: of these only the definitions in use are followed. What counts is the syntax tree: comments and
docstrings do not.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unlearn.store import syntax
from unlearn.store.digests import digest
from unlearn.store.environment import minor
from unlearn.store.remembered import Book
from unlearn.store.syntax import WHOLE, Part, Reference

PACKAGE = Path(__file__).parents[1]

APART = (
    "unlearn.catalogue",
    "unlearn.config",
    "unlearn.errors",
    "unlearn.pipeline.judging",
    "unlearn.pipeline.memory",
    "unlearn.settings",
    "unlearn.store",
    "unlearn.system",
    "unlearn.tracking",
)
"""Rooms and modules that decide no number: they keep, name, check and report."""

STAGES = frozenset(
    f"unlearn.pipeline.{name}"
    for name in ("attacking", "curves", "doubts", "drawing", "erasing", "resurging", "scoring")
)
"""Modules with the code of stages, which are followed by definition."""

DATA = {"unlearn.concepts.sentences": ("data/objects.csv", "data/sentences.csv")}
"""Packaged files that a module reads and that no stage has among its inputs by their content."""

DECIDING = {
    "diffusers": "diffusers",
    "onnxruntime": "onnxruntime",
    "open_clip": "open_clip_torch",
    "scipy": "scipy",
    "torch": "torch",
    "torch_fidelity": "torch-fidelity",
    "torchmetrics": "torchmetrics",
    "torchvision": "torchvision",
    "transformers": "transformers",
}
"""Libraries that decide numbers, by the name that they are imported by, and what they are installed as."""


def made_by(*roots: Any) -> dict[str, Any]:
    """What of the inputs of a stage is code.

    Arguments:
        roots: Functions of :data:`STAGES`, and values whose dataclasses do the work, at any depth.

    Returns:
        ``code``, a digest that changes with the syntax of what they reach, and ``libraries``, the versions
        (major and minor) of the libraries that this imports.
    """
    parts = reached(roots)
    lines = [f"{module} {name} {part.digest}\n" for (module, name), part in sorted(parts.items())]
    lines += [
        f"{name} {digest(PACKAGE / name)}\n" for module, _ in sorted(parts) for name in DATA.get(module, ())
    ]
    imported = {taken.split(".")[0] for part in parts.values() for taken, _ in part.references}
    libraries = {name: minor(DECIDING[name]) for name in sorted(imported & DECIDING.keys())}
    return {"code": hashlib.sha256("".join(lines).encode()).hexdigest()[:12], "libraries": libraries}


def reached(roots: Iterable[Any]) -> dict[Reference, Part]:
    """All parts of this package's code, and of the packages and folders that ``roots`` come from, that they
    lead to.
    """
    found: dict[Reference, Part] = {}
    with Book("syntax") as book:
        left = [place for root in roots for place in _origins(root)]
        own = {"unlearn", *(module.split(".")[0] for module, _ in left)} - DECIDING.keys()
        homes = {home for name in own - {"unlearn"} if (home := _home(name)) and not _is_shared(home)}
        while left:
            place = left.pop()
            if place in found or _is_apart(place[0]):
                continue
            module, name = place
            parts = _parts(module, book)
            if parts is None or name not in parts:  # another package's, or a name that is no definition
                continue
            found[place] = parts[name]
            for taken in parts[name].references:
                top = taken[0].split(".")[0]
                if top in own or _home(top) in homes:
                    left.append(_located(*taken))
    return found


def _origins(value: Any) -> Iterator[Reference]:
    """Where the functions and the dataclasses of a value stand."""
    if isinstance(value, Callable) and hasattr(value, "__qualname__"):  # type: ignore[arg-type]
        yield _located(value.__module__, value.__qualname__)
    elif is_dataclass(value):
        yield type(value).__module__, WHOLE
        for field in fields(value):
            yield from _origins(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _origins(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _origins(item)


def _is_apart(module: str) -> bool:
    return any(f"{module}.".startswith(f"{room}.") for room in APART)


def _is_own(module: str) -> bool:
    return module.split(".")[0] == "unlearn"


def _located(module: str, name: str) -> Reference:
    """The part that a reference means."""
    if name and _file(f"{module}.{name}") is not None:
        module, name = f"{module}.{name}", WHOLE
    return module, name if module in STAGES else WHOLE


def _file(module: str) -> Path | None:
    """The source of a module; None where there is none to read."""
    if not _is_own(module):
        path = _source(module)
        return path if path and path.suffix == ".py" else None
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _source(module: str) -> Path | None:
    """The file of a module from outside, which may not be imported yet."""
    if (known := sys.modules.get(module)) is not None:
        path = getattr(known, "__file__", None)
    else:
        try:
            spec = find_spec(module)
        except (ImportError, ValueError):  # what stands before the last dot is no package
            return None
        path = spec.origin if spec is not None else None
    return Path(path) if path else None


def _is_shared(folder: Path) -> bool:
    """Whether modules lie side by side in a folder that have nothing to do with each other."""
    standard = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return folder.name in ("site-packages", "dist-packages") or folder in standard


@cache
def _home(top: str) -> Path | None:
    """The folder in which a module or package without a dot in its name lies."""
    path = _source(top)
    if path is None:
        return None
    return path.parent.parent if path.name == "__init__.py" else path.parent


_seen: dict[str, dict[str, Part] | None] = {}
"""By module; read once, since a process runs the code that it has begun with."""


def _parts(module: str, book: Book) -> dict[str, Part] | None:
    if module not in _seen:
        path = _file(module)
        _seen[module] = None if path is None else _parsed(path.read_bytes(), module, book)
    return _seen[module]


def _package(module: str) -> str:
    """What a relative import of a module is relative to."""
    path = _file(module)
    return module if path is not None and path.name == "__init__.py" else module.rpartition(".")[0]


def _parsed(source: bytes, module: str, book: Book) -> dict[str, Part]:
    """What stands in a source file, or stood there before in the very same words."""
    reader = digest(Path(syntax.__file__))  # another reader may find something else in the same words
    key = f"{module} {hashlib.sha256(source).hexdigest()} {reader}"
    if (known := book.get(key)) is not None:
        return {name: Part(each[0], tuple(map(tuple, each[1]))) for name, each in known.items()}
    parts = (
        syntax.definitions(source, module)
        if module in STAGES
        else {WHOLE: syntax.whole(source, _package(module))}
    )
    book.add(key, parts)
    return parts
