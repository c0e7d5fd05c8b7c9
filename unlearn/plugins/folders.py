"""Where configurations from outside lie: read without Hydra and without importing anybody's code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unlearn.errors import ConfigError

ANNOUNCED = {
    "unlearn.models": "model",
    "unlearn.methods": "method",
    "unlearn.attacks": "attack",
    "unlearn.metrics": "metric",
    "unlearn.detectors": "detector",
    "unlearn.resurgence": "resurgence",
    "unlearn.trackers": "tracker",
    "unlearn.concepts": None,
}
"""Groups of entry points, and the group of ``conf/`` that each adds to.

A concept needs no class: its entry point is the package whose ``conf/concept`` holds it.
"""

FOLDERS: dict[Path, str] = {}
"""Folders of YAML that plug-ins brought with them, and what they came with."""

SAID: list[Path] = []
"""Folders of YAML that the command line itself names, for ``--config-dir`` and ``hydra.searchpath``."""


def search(words: Sequence[str]) -> list[Path]:
    """Finds the folders that installed packages and the words of a command line bring.

    Arguments:
        words: ``key=value`` words, perhaps with ``--config-dir FOLDER`` among them.

    Returns:
        The Python files that the words name.

    Raises:
        ConfigError: If a name in one of the folders is taken.
    """
    _search_installed()
    SAID[:] = _said(words)
    paths = [Path(path).resolve() for path in _plugins(words)]
    for path in paths:
        _add(path.parent / "conf", str(path))
    return paths


def announced() -> Iterator[tuple[str | None, EntryPoint]]:
    """What installed packages announce, and the group of ``conf/`` that it belongs to."""
    for name, group in ANNOUNCED.items():
        for point in sorted(entry_points(group=name), key=lambda one: (one.name, one.value)):
            yield group, point


def distribution(point: EntryPoint) -> str:
    """The installed package that announces something, and its version."""
    return "unknown" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def brought_by(group: str, name: str) -> str:
    """What a configuration from outside came with; empty if it is the package's own, or none."""
    own = f"{group}/{name}.yaml"
    places = {**FOLDERS, **{folder: str(folder) for folder in SAID}}
    return next((label for folder, label in places.items() if (folder / own).is_file()), "")


def absolute(words: Sequence[str], folder: Path) -> list[str]:
    """The same words, with the plug-ins of a command that was given in ``folder`` wherever one is now."""
    return [
        f"plugins=[{','.join(repr(str(folder / path)) for path in _listed(word))}]"
        if _key(word) == "plugins"
        else word
        for word in words
    ]


@cache
def _search_installed() -> None:
    for _, point in announced():
        spec = find_spec(point.module.partition(".")[0])
        for place in (spec and spec.submodule_search_locations) or ():
            _add(Path(place) / "conf", distribution(point))


def _add(folder: Path, label: str) -> None:
    if folder in FOLDERS or not folder.is_dir() or folder == Path(str(files("unlearn.conf"))).resolve():
        return
    for path in sorted(folder.rglob("*.yaml")):
        own = path.relative_to(folder).as_posix()
        others = [str(other) for other in FOLDERS if (other / own).is_file()]
        if files("unlearn.conf").joinpath(own).is_file():
            others.append("unlearn")
        if others:
            group, _, name = own.removesuffix(".yaml").rpartition("/")
            raise ConfigError(
                f"{path}: the name '{name}' of group {group} is taken by {others[0]}. Choose another."
            )
    FOLDERS[folder] = label


def _said(words: Sequence[str]) -> list[Path]:
    found = [Path(path.removeprefix("file://")) for word in words if _key(word) == "hydra.searchpath"
             for path in _listed(word)]  # fmt: skip
    for flag, word in zip(words, [*words, ""][1:], strict=True):
        if flag in ("--config-dir", "-cd"):
            found.append(Path(word))
        elif flag.startswith("--config-dir="):
            found.append(Path(flag.partition("=")[2]))
    return [path.resolve() for path in found if path.is_dir()]


def _plugins(words: Sequence[str]) -> Iterator[str]:
    """The files that the words name, or the experiments that they choose."""
    for word in words:
        if _key(word) == "plugins":
            yield from _listed(word)
        elif _key(word) == "experiment":
            for folder in (Path(str(files("unlearn.conf"))), *FOLDERS, *SAID):
                yield from _of_experiment(folder / "experiment" / f"{word.partition('=')[2]}.yaml")


def _of_experiment(path: Path) -> list[str]:
    found = _read(path.read_text(encoding="utf-8")) if path.is_file() else None
    return _flat(found.get("plugins")) if isinstance(found, dict) else []


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+") if "=" in word else ""


def _listed(word: str) -> list[str]:
    """The entries of the list behind a key, or of all lists that a sweep goes through."""
    return _flat(_read(f"[{word.partition('=')[2]}]"))


def _read(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # Hydra meets it again in a moment, and says it
        return None


def _flat(value: Any) -> list[str]:
    if isinstance(value, list):
        return [path for inner in value for path in _flat(inner)]
    return [] if value is None else [str(value)]
