"""Errors that a user can act on, and how their messages are built.

A message reads ``<where>: <what is wrong>, got <value>. <nearest or known values, or what to do>.``
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UnlearnError(Exception):
    """A problem that the user can mend. The command line prints it as one message, without a traceback."""


class ConfigError(UnlearnError):
    """The composed configuration does not describe a run that can start."""


class IncompatibleError(UnlearnError):
    """A method, attack or metric was paired with a model or concept that it is not defined for."""


class ArtifactError(UnlearnError):
    """A stored artifact is damaged, or belongs to other inputs than those it was asked for."""


class WriteError(UnlearnError, OSError):
    """Something could not be written: the disk is full, the folder read-only, the name too long."""


class UnlearnWarning(UserWarning):
    """Something makes a number doubtful; ``results.json`` lists it.

    Every warning of this package is one. The file that a warning is counted to does not tell ours from a
    library's, which names the line that called it.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Says that ``name`` is no ``kind``, names the nearest one, and lists them all.

    Arguments:
        kind: What was looked for, as in "detector" or "key".
        name: What was asked for.
        known: The names that there are.

    Returns:
        One line, to be put behind the key it concerns.
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"Unknown {kind} '{name}'.{hint} Known: {', '.join(names) or 'none'}."
