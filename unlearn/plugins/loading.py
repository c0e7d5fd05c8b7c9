"""From a file or an entry point to a name in the catalogue."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from unlearn.catalogue import BASES, MODELS, TABLES
from unlearn.errors import ConfigError, unknown
from unlearn.plugins.folders import announced, distribution, search
from unlearn.plugins.spelling import snake

ORIGINS: dict[tuple[str, str], str] = {}
"""The names that came from outside, with their group of ``conf/``, and what they came with."""

_loaded: set[Path] = set()


def load(words: Sequence[str] = ()) -> None:
    """Enters what installed packages announce, and what stands in the files that a command line names.

    In a file, every class that is defined there, is no helper (``_Helper``) and extends ``Method``,
    ``Attack``, ``Metric`` or another of :data:`~unlearn.catalogue.BASES` is entered under its name in small
    letters: ``BlurEdges`` becomes ``blur_edges``. A file may import others of its folder.

    Arguments:
        words: ``key=value`` words, of which ``plugins=[...]`` and ``experiment=...`` count.

    Raises:
        ConfigError: In one line that names the file, if it is missing, cannot be imported, holds nothing of
            use, or one of its classes is incomplete, unexplained, or has a name that is taken.
    """
    paths = search(words)
    _load_installed()
    for path in paths:
        if path not in _loaded:
            _load_file(path)
            _loaded.add(path)


def is_loaded(file: str) -> bool:
    """Whether a file was loaded by this process, under any path."""
    return Path(file).resolve() in _loaded


def homes() -> list[str]:
    """The folders of the files that were loaded, for other processes to find them, too."""
    return sorted({str(path.parent) for path in _loaded})


@cache
def _load_installed() -> None:
    for group, point in announced():
        if group is not None:
            where = f"{point.value} of {distribution(point)}"
            _enter(group, point.name, _imported(where, point.load), where, distribution(point))


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"plugins: there is no file '{path}'.")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ConfigError(f"plugins: {path} must be a Python file whose name is an identifier.")
    module = _imported(str(path), lambda: _module(path))
    found = [
        (group, cls)
        for cls in vars(module).values()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and not cls.__name__.startswith("_")
        for group, bases in BASES.items()
        if issubclass(cls, bases)
    ]
    if not found:
        known = ", ".join(base.__name__ for bases in BASES.values() for base in bases)
        raise ConfigError(f"{path}: defines no class that extends one of {known}.")
    for group, cls in found:
        _enter(group, snake(cls.__name__), cls, str(path), str(path))


def _module(path: Path) -> ModuleType:
    """A file as a module of its folder, which it may import other files from."""
    importlib.invalidate_caches()
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = find_spec(path.stem)
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != path:
        raise ImportError(f"another module has the name '{path.stem}'; rename the file")
    return importlib.import_module(path.stem)


def _imported(where: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # whatever somebody's module raises while it is imported
        said = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"{where}: cannot be imported ({type(error).__name__}{_line(error)}: {said})."
        ) from error


def _line(error: Exception) -> str:
    """Where in somebody's own file an import failed, as far as that can be told."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" in {error.filename}, line {error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_file() and frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _enter(group: str, name: str, cls: Any, where: str, label: str) -> None:
    if problem := _problem(group, name, cls):
        raise ConfigError(f"{where}: {problem}")
    TABLES[group][name] = cls
    ORIGINS[group, name] = label


def _problem(group: str, name: str, cls: Any) -> str | None:
    """What keeps a class from standing under a name."""
    bases = BASES[group]
    if not inspect.isclass(cls) or not issubclass(cls, bases):
        return f"must be a class that extends {' or '.join(base.__name__ for base in bases)}."
    if name in TABLES[group]:
        other = ORIGINS.get((group, name), "unlearn")
        return f"the name '{name}' of a {group} is taken by {other}. Choose another for {cls.__name__}."
    if "__dataclass_fields__" not in vars(cls):
        return f"{cls.__name__} must be a dataclass: write @dataclass(kw_only=True) above it."
    if lacking := _lacking(cls):
        return f"{cls.__name__} is incomplete: it lacks {', '.join(lacking)}."
    text = vars(cls).get("__doc__")
    if not text or text.startswith(f"{cls.__name__}("):  # the latter is what dataclass writes
        return f"{cls.__name__} has no docstring, whose first line is what unlearn list shows."
    features = {feature for model in MODELS.values() for feature in model.features}
    for feature in sorted(getattr(cls, "requires", frozenset())):
        if feature not in features:
            return f"{cls.__name__}.requires: {unknown('feature', feature, features)}"
    return None


def _lacking(cls: type) -> list[str]:
    """Methods and class variables that what a class extends leaves to it."""
    declared = {
        key: str(hint) for base in cls.__mro__ for key, hint in vars(base).get("__annotations__", {}).items()
    }
    unset = {key for key, hint in declared.items() if "ClassVar" in hint and not hasattr(cls, key)}
    return sorted({*getattr(cls, "__abstractmethods__", ()), *unset})
