"""Which names come from outside, and what they came with."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn.plugins.folders import brought_by, search


def outside(group: str, words: Sequence[str] = ()) -> list[str]:
    """The names from outside whose class is their configuration, after loading what ``words`` name.

    Raises:
        ConfigError: If a plug-in cannot be used.
    """
    if group == "concept":  # has no classes, and needs no torch
        search(words)
        return []
    from unlearn.plugins.loading import ORIGINS, load

    load(words)
    return [name for kind, name in ORIGINS if kind == group]


def origin(group: str, name: str) -> list[str]:
    """What a name from outside came with, in brackets; nothing for the package's own."""
    label = brought_by(group, name)
    if not label and group != "concept":
        from unlearn.plugins.loading import ORIGINS

        label = ORIGINS.get((group, name), "")
    return [f"({label})"] if label else []
