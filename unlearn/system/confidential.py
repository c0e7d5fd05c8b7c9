"""Values of the environment that a configuration refers to, and that are stored nowhere.

A configuration that says ``${oc.env:TOKEN}`` keeps its token to itself: in what is written, logged or said of
an error, the reference stands for the value. What a fingerprint is taken of holds the value.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Container
from typing import Any, TypeVar

T = TypeVar("T")

REFERENCE = re.compile(r"\$\{oc\.env:\s*([^},\s]+)")
LEAST = 8
"""Characters of the shortest value that is looked for in other text, where ``cpu`` is found everywhere."""

_known: dict[str, str] = {}


def heed(config: Any) -> None:
    """Notes the values that a configuration refers to.

    Arguments:
        config: In plain terms and not resolved: mappings, lists and strings.
    """
    if isinstance(config, dict):
        for value in config.values():
            heed(value)
    elif isinstance(config, list):
        for value in config:
            heed(value)
    elif isinstance(config, str):
        for name in REFERENCE.findall(config):
            if len(value := os.environ.get(name, "")) >= LEAST:
                _known[value] = f"${{oc.env:{name}}}"


def stated(config: Any, resolved: Any) -> Any:
    """A resolved configuration in which references to the environment stand as they were written.

    Arguments:
        config: As in :func:`heed`.
        resolved: The same with everything resolved.
    """
    if isinstance(config, dict) and isinstance(resolved, dict):
        return {key: stated(config.get(key), value) for key, value in resolved.items()}
    if isinstance(config, list) and isinstance(resolved, list) and len(config) == len(resolved):
        return [stated(one, value) for one, value in zip(config, resolved, strict=True)]
    if isinstance(config, str) and REFERENCE.search(config):
        return config
    return redacted(resolved)


def redacted(value: T, but: Container[str] = ()) -> T:
    """``value`` with references in place of the values of the environment in its strings.

    Arguments:
        value: What JSON can hold.
        but: Keys of mappings whose values stay, as those of paths that have to lead somewhere.
    """
    found: Any = value
    if not _known:
        return value
    if isinstance(value, str):
        for secret in sorted(_known, key=len, reverse=True):
            found = found.replace(secret, _known[secret])
    elif isinstance(value, dict):
        found = {key: each if key in but else redacted(each, but) for key, each in value.items()}
    elif isinstance(value, list):
        found = [redacted(each, but) for each in value]
    return found  # type: ignore[no-any-return]


class Filter(logging.Filter):
    """Keeps them out of a log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replaces them in the record; lets every record pass."""
        record.msg, record.args = redacted(record.getMessage()), ()
        return True
