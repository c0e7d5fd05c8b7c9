"""The configuration files as plain YAML, for commands that cannot wait for Hydra and torch.

What is known here of Hydra's defaults lists is what the packaged files use: parents in the same group,
components at a place (``/metric@metrics.fid: fid``), and experiments that override a choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from unlearn.plugins.folders import FOLDERS, SAID

GROUPS = {
    "methods": "method",
    "attacks": "attack",
    "metrics": "metric",
    "models": "model",
    "detectors": "detector",
    "concepts": "concept",
    "resurgence": "resurgence",
}
"""What ``unlearn list`` lists, and the group of configurations that it stands for."""


def text(path: str) -> str:
    """What stands in a file, by its path in ``conf/``; nothing if there is none."""
    place = _find(path)
    return "" if place is None else place.read_text(encoding="utf-8")


def _find(path: str) -> Traversable | None:
    """A file by its path in ``conf/``, the package's own or one from outside."""
    places = (root.joinpath(path) for root in (files("unlearn.conf"), *FOLDERS, *SAID))
    return next((place for place in places if place.is_file()), None)


@cache
def _parsed(written: str) -> dict[str, Any]:
    import yaml

    return yaml.load(written, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def _content(path: str) -> dict[str, Any]:
    """What stands in a file by its path in ``conf/``; nothing if there is none."""
    return _parsed(text(path))


def is_group(name: str) -> bool:
    """Whether there is a group of this name, as in ``method`` or ``hydra/launcher``."""
    return bool(name) and files("unlearn.conf").joinpath(name).is_dir()


def options(group: str) -> list[str]:
    """The names in a group, those in its folders among them, and those from outside."""
    roots = [root.joinpath(group) for root in (files("unlearn.conf"), *FOLDERS, *SAID)]
    return sorted({name for root in roots if root.is_dir() for name in _names(root, "")})


def _names(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            yield from _names(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml")


def _choices(content: dict[str, Any]) -> dict[str, str | None]:
    """The groups that a file chooses from, and what it chooses."""
    entries = [entry for entry in content.get("defaults", ()) if isinstance(entry, dict)]
    return {
        key.removeprefix("override ").strip().lstrip("/"): value
        for entry in entries
        for key, value in entry.items()
    }


def chosen_groups() -> dict[str, str | None]:
    """The groups of a run, and what is chosen where nothing is said."""
    choices = _choices(_content("run.yaml"))
    return {group: name for group, name in choices.items() if "/" not in group}


def comment(group: str, name: str) -> str:
    """The comment that a file begins with, on one line; empty if it has none."""
    lines = []
    for line in text(f"{group}/{name}.yaml").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)


def schema(group: str, name: str) -> str | None:
    """The name, in the group's table, of the class that a file or the one it extends configures."""
    for entry in _content(f"{group}/{name}.yaml").get("defaults", ()):
        if isinstance(entry, str) and entry.startswith(f"/schema/{group}/"):
            return entry.removeprefix(f"/schema/{group}/").partition("@")[0]
        if isinstance(entry, str) and entry != "_self_":
            return schema(group, entry)
    return None


def composed(overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What ``run.yaml`` and the groups chosen on the line set, as far as plain YAML tells."""
    content = _content("run.yaml")
    chosen = chosen_groups()
    said = dict(word.split("=", 1) for word in overrides if "=" in word)
    experiment = said.get("experiment")
    if experiment:
        override = _choices(_content(f"experiment/{experiment}.yaml"))
        chosen |= {group: name for group, name in override.items() if group in chosen}
    tree: dict[str, Any] = {}
    for group, name in (chosen | {k: v for k, v in said.items() if k in chosen}).items():
        if name:
            tree[group] = tree_of(group, name)
    _merge(tree, {key: value for key, value in content.items() if key not in ("defaults", "hydra")})
    tree.pop("experiment", None)
    return tree


def tree_of(group: str, name: str) -> dict[str, Any]:
    """What a file of a group sets, with what it takes from others."""
    content = _content(f"{group}/{name}.yaml")
    tree: dict[str, Any] = {}
    for entry in content.get("defaults", ()):
        if isinstance(entry, str):
            if not entry.startswith(("_self_", "/schema")):
                parent, _, place = entry.partition("@")
                _merge(tree, _planted(tree_of(group, parent), place))
            continue
        for key, value in entry.items():
            source, _, place = key.lstrip("/").partition("@")
            if value and not key.startswith(("override", "/schema")):
                _merge(tree, _planted(tree_of(source, value), place))
    _merge(tree, {key: value for key, value in content.items() if key != "defaults"})
    return tree


def _planted(branch: dict[str, Any], place: str) -> dict[str, Any]:
    """A tree with ``branch`` at ``place``, as in ``metrics.fid``; at its root if that is empty."""
    for part in reversed(place.split(".") if place else ()):
        branch = {part: branch}
    return branch


def _merge(tree: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, dict):
            branch = tree[key] if isinstance(tree.get(key), dict) else {}
            _merge(branch, value)
            value = branch
        tree[key] = value
