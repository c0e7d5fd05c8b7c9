"""Where the values of ``conf/`` come from: the comment beside or above each, and the file it stands in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Said = dict[str, str]
"""By dotted key, where a value comes from, as in ``paper, section 5 (method/esd.yaml)``."""


def sources(group: str, name: str, read: Callable[[str], str]) -> Said:
    """Where each value of a file comes from, with those that it takes from other files.

    Arguments:
        group: A folder of ``conf/``.
        name: A file in it, without ``.yaml``.
        read: Gives the text of a file by its path in ``conf/``.
    """
    import yaml

    path = f"{group}/{name}.yaml"
    text = read(path)
    root = yaml.compose(text)
    content = yaml.safe_load(text) or {}
    found: Said = {}
    for other, chosen, place in _taken(group, content.get("defaults", ())):
        found |= _planted(sources(other, chosen, read), place)
    for key, said, whole in _own(root, text.splitlines(), ""):
        if whole:
            found = {each: where for each, where in found.items() if not each.startswith(f"{key}.")}
        if whole or said:
            found[key] = f"{said} ({path})" if said else path
    return found


def _taken(group: str, entries: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    """The files that a defaults list takes: the group, the name, and the place in this one."""
    for entry in entries:
        if isinstance(entry, dict):
            for key, name in entry.items():
                source, _, place = str(key).lstrip("/").partition("@")
                if name and not source.startswith(("override", "schema")):
                    yield source, str(name), place.removeprefix("_here_")
        elif not entry.startswith(("_self_", "/schema")):
            name, _, place = entry.partition("@")
            yield group, name, place.removeprefix("_here_")


def _planted(found: Said, place: str) -> Said:
    return {f"{place}.{key}" if place else key: said for key, said in found.items()}


def _own(node: Any, lines: Sequence[str], start: str) -> Iterator[tuple[str, str, bool]]:
    """The keys of a YAML mapping, what is said of each, and whether its value stands here as a whole."""
    from yaml import MappingNode, ScalarNode

    for key, value in node.value if isinstance(node, MappingNode) else ():
        name = f"{start}{key.value}"
        if name == "defaults":
            continue
        opened = isinstance(value, MappingNode) and bool(value.value)
        end = value.end_mark if isinstance(value, ScalarNode) or value.flow_style else key.end_mark
        yield name, _beside(lines[end.line][end.column :]) or _above(lines, key.start_mark), not opened
        yield from _own(value, lines, f"{name}.")


def _beside(rest: str) -> str:
    """The comment behind a value."""
    found = re.match(r":?\s*#\s*(.*)", rest)
    return found[1].strip() if found else ""


def _above(lines: Sequence[str], mark: Any) -> str:
    """The comment on the lines above a key, unless it is what the file begins with."""
    first = mark.line
    while first and lines[first - 1].startswith(" " * mark.column + "#"):
        first -= 1
    return " ".join(line.strip().lstrip("# ") for line in lines[first : mark.line]) if first else ""
