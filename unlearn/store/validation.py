"""Whether JSON is JSON, and whether what was read from it is what a type says."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints


def parsed(text: str | bytes) -> Any:
    """What a JSON text says, where it says one thing only.

    Raises:
        ValueError: If it is no JSON; holds NaN, an infinity or a number too large to be one; says a key
            twice; or is nested too deeply to be read.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def problems(value: Any, expected: Any, key: str = "", strict: bool = False) -> Iterator[str]:
    """What of a value is not as its type says, each as ``<key>: <what is wrong>``.

    Numbers must be finite, and what is called ``interval`` must be ``[low, high]`` or None.

    Arguments:
        expected: A TypedDict, or what its fields are annotated with.
        key: What the value is called.
        strict: Whether keys that the type does not have are wrong, too.
    """
    where = f"{key}: " if key else ""
    if isinstance(expected, type) and issubclass(expected, dict):
        if not isinstance(value, dict):
            yield f"{where}must be an object, got {_shown(value)}."
            return
        hints = get_type_hints(expected, include_extras=True)
        for name, hint in hints.items():
            inner = f"{key}.{name}" if key else name
            if name in value:
                yield from problems(value[name], hint, inner, strict)
            elif get_origin(hint) is not NotRequired:
                yield f"{inner}: is missing."
        if strict:
            yield from (f"{where}has the unknown key '{name}'." for name in value.keys() - hints.keys())
        if "interval" in hints and not (value.get("interval") is None or _is_interval(value["interval"])):
            yield f"{where}interval must be [low, high], got {_shown(value['interval'])}."
        return
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is NotRequired:
        yield from problems(value, arguments[0], key, strict)
    elif origin in (Union, types.UnionType):
        if not (value is None and types.NoneType in arguments):
            yield from problems(value, next(a for a in arguments if a is not types.NoneType), key, strict)
    elif origin is Literal:
        if value not in arguments:
            yield f"{where}must be one of {', '.join(map(str, arguments))}, got {_shown(value)}."
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{where}must be an object, got {_shown(value)}."
            return
        for name, inner in value.items():
            yield from problems(inner, arguments[1], f"{key}.{name}", strict)
    elif origin is list:
        if not isinstance(value, list):
            yield f"{where}must be a list, got {_shown(value)}."
            return
        for index, inner in enumerate(value):
            yield from problems(inner, arguments[0], f"{key}[{index}]", strict)
    elif expected is float:
        if not _is_finite(value):
            yield f"{where}must be a finite number, got {_shown(value)}."
    elif type(value) is not expected:
        yield f"{where}must be {expected.__name__}, got {_shown(value)}."


def _is_interval(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(map(_is_finite, value))
    return numbers and value[0] <= value[1]


def _is_finite(value: Any) -> bool:
    """Whether it is a number, and one that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested deeply, or a whole number of thousands of digits
        text = f"a {type(value).__name__} too large to be shown"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {_shown(twice)} is there twice")
    return found
