"""What values a setting may have: said where it stands, checked in one place, shown by ``unlearn show``.

.. code-block:: python

    @dataclass(kw_only=True)
    class Descent(Settings):
        rule: str = setting(default="adam", choices=("adam", "sign"))
        steps: int = setting(least=1)
        lr: float = setting(above=0)

What depends on another field is checked in the class's own ``__post_init__``, after that of
:class:`Settings`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from math import isfinite, isnan
from numbers import Integral, Real
from typing import Any

from unlearn.errors import unknown

SHAPES = {
    "any": "",
    "some": "needs at least one",
    "once": "needs at least one, and each once",
    "rising": "needs at least one, rising",
    "falling": "needs at least one, falling",
}
"""What a list may have to be, and what is said of one that is not."""

COUNTS = {2: "two", 3: "three"}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Numbers, finite unless said.

    Attributes:
        least: From here up.
        above: Above this.
        most: Up to here.
        below: Below this.
        multiple: Multiples of this.
        infinite: Infinity, too.
        whole: Whole numbers.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    multiple: int | None = None
    infinite: bool = False
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number: Any = value
        finite = isinstance(value, Integral) or isfinite(number) or (self.infinite and not isnan(number))
        return finite and not (
            (self.least is not None and number < self.least)
            or (self.above is not None and number <= self.above)
            or (self.most is not None and number > self.most)
            or (self.below is not None and number >= self.below)
            or (self.multiple is not None and number % self.multiple)
        )

    def words(self) -> str:
        """As in "at least 1", "a number above 0" or "from 0 to below 1"."""
        multiple = f"a multiple of {self.multiple}, " if self.multiple is not None else ""
        return multiple + (self._bounded() if self._top() else self._unbounded())

    def _bounded(self) -> str:
        number = "a whole number" if self.whole else "a number"
        if self.least is not None:
            return f"from {_said(self.least)} to {self._top()}"
        if self.above is None:
            return f"{number} up to {self._top()}" if self.below is None else f"{number} {self._top()}"
        if self.below is None:
            return f"above {_said(self.above)} and at most {self._top()}"
        return f"between {_said(self.above)} and {_said(self.below)}"

    def _unbounded(self) -> str:
        if self.least is not None:
            return f"at least {_said(self.least)}" if self.whole else f"a number from {_said(self.least)} up"
        number = "a whole number" if self.whole else "a number"
        return number if self.above is None else f"{number} above {_said(self.above)}"

    def _top(self) -> str:
        if self.most is not None:
            return _said(self.most)
        return f"below {_said(self.below)}" if self.below is not None else ""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values that a setting may have.

    Of a list each element is meant, of a mapping each value.

    Attributes:
        interval: Which numbers; None if it is about something else.
        choices: Which words.
        keys: Which keys a mapping may have.
        kind: What a choice or a key is called in a message; the name of the setting if nothing is said.
        contains: Texts of which it has to contain one.
        filled: Whether a text has to say something.
        shape: What a list or a mapping has to be, one of :data:`SHAPES`.
        count: How many numbers a list has; None for any.
        null: What null stands for, as in "null for all".
        unit: What it is counted or measured in, where its meaning does not say so.
        holders: What holds the values, from outside in: ``list``, ``dict`` or ``dict`` and ``list``.
        optional: Whether null is allowed.
    """

    interval: Interval | None = None
    choices: Collection[str] = ()
    keys: Collection[str] = ()
    kind: str = ""
    contains: tuple[str, ...] = ()
    filled: bool = False
    shape: str = "any"
    count: int | None = None
    null: str = ""
    unit: str = ""
    holders: tuple[str, ...] = ()
    optional: bool = False

    def words(self) -> str:
        """All that is allowed, as in ``at least 1, or null for all``; empty if anything is."""
        words = self._one()
        if self.holders:
            each = self._numbers() if self.count else words and f"each {words}"
            words = ", ".join(filter(None, (self._shape().removeprefix("needs "), each)))
        if self.keys:
            words = f"for any of {_listed(self.keys)}" + (f": {words}" if words else "")
        return f"{words}{self._or_null()}" if words else ""

    def problems(self, key: str, value: Any) -> list[str]:
        """What is wrong with a value, each as ``<key>: <what is wrong>, got <value>``."""
        if value is None and self.optional:
            return []
        if isinstance(value, Mapping):
            return [*self._of_mapping(key, value)]
        listed = isinstance(value, list | tuple)
        wrong = self._of_list(key, value) if listed else self._of_one(key, value)
        return [f"{key}: {wrong}"] if wrong else []

    def _of_mapping(self, key: str, values: Mapping[str, Any]) -> Iterator[str]:
        if self.holders == ("dict",) and not self._shaped([*values]):
            yield f"{key}: {self._shape()}, got {dict(values)}"
        inner = replace(self, holders=self.holders[1:], kind=self.kind or key, optional=False)
        for name, value in values.items():
            if self.keys and name not in self.keys:
                yield f"{key}: {unknown(self.kind or key, str(name), self.keys)}"
            else:
                yield from inner.problems(f"{key}.{name}", value)

    def _of_list(self, key: str, values: Sequence[Any]) -> str:
        wrong = [value for value in values if not self._allows(value)]
        if self.count and (wrong or len(values) != self.count):
            return f"must be {self._numbers()}, got {values}"
        if wrong and self.choices:
            return unknown(self.kind or key, str(wrong[0]), self.choices)
        if wrong and not self.filled:
            return f"each must be {self._one()}, got {values}"
        return f"{self._shape()}, got {values}" if wrong or not self._shaped(values) else ""

    def _of_one(self, key: str, value: Any) -> str:
        if self.holders:
            return f"must be a {self.holders[0]}{self._or_null()}, got {value!r}"
        if self._allows(value):
            return ""
        if self.choices:
            return unknown(self.kind or key, str(value), self.choices)
        return f"must be {self._one()}{self._or_null()}, got {value!r}"

    def _allows(self, value: Any) -> bool:
        """Whether a single value is allowed, or an element of a list."""
        if self.choices:
            return value in self.choices
        if self.interval is not None:
            return self.interval.holds(value)
        if self.contains:
            return isinstance(value, str) and any(part in value for part in self.contains)
        return not self.filled or (isinstance(value, str) and bool(value.strip()))

    def _one(self) -> str:
        """What a single value may be."""
        if self.choices:
            return f"one of {_listed(self.choices)}"
        if self.interval is not None:
            return self.interval.words()
        return f"a text with {' or '.join(self.contains)}" if self.contains else ""

    def _numbers(self) -> str:
        """As in "two numbers from 0 to 1"."""
        return f"{COUNTS[self.count or 0]} numbers {self._one().removeprefix('a number ')}"

    def _shaped(self, values: Sequence[Any]) -> bool:
        """Whether a list has the elements that it must have, in their order."""
        if self.shape in ("rising", "falling"):
            return bool(values) and sorted({*values}, reverse=self.shape == "falling") == [*values]
        if self.shape == "once":
            return bool(values) and len({*values}) == len(values)
        return self.shape == "any" or bool(values)

    def _shape(self) -> str:
        return ", and ".join(filter(None, (SHAPES[self.shape], "none may be empty" if self.filled else "")))

    def _or_null(self) -> str:
        return f", or null{f' for {self.null}' if self.null else ''}" if self.optional else ""


class Settings:
    """The base of what is configured: checks all fields that are a :func:`setting`.

    Raises:
        ValueError: If any has a value that it may not have. All are named, one a line, each as
            ``<field>: <what is wrong>``.
    """

    def __post_init__(self) -> None:
        cls: type = type(self)
        wrong = [
            problem
            for key, allowed in ranges(cls).items()
            for problem in allowed.problems(key, getattr(self, key))
        ]
        if wrong:
            raise ValueError("\n".join(wrong))


def setting(*, default: Any = MISSING, default_factory: Any = MISSING, **allowed: Any) -> Any:
    """A field of a dataclass that says which values it may have.

    Arguments:
        default: Its value where none is given.
        default_factory: What makes that value.
        allowed: The fields of :class:`Interval` and :class:`Range`; what its annotation says (whether it is a
            number, a whole one, a list, or may be null) is not said again.
    """
    bounds = {name: allowed.pop(name) for name in tuple(allowed) if name in Interval.__dataclass_fields__}
    metadata = {"range": Range(interval=Interval(**bounds), **allowed)}
    if default_factory is not MISSING:
        return field(default_factory=default_factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def ranges(cls: type) -> dict[str, Range]:
    """What the fields of a dataclass may be, of those that say it."""
    return {
        each.name: _annotated(each.metadata["range"], str(each.type))
        for each in fields(cls)
        if "range" in each.metadata
    }


def _annotated(allowed: Range, annotation: str) -> Range:
    """A range with what the annotation of its field says."""
    words = {*re.findall(r"\w+", annotation)}
    holders = tuple(re.findall(r"\b(dict|list)\[", annotation))
    interval = replace(allowed.interval or Interval(), whole="float" not in words)
    numeric = words & {"float", "int"}
    return replace(allowed, interval=interval if numeric else None, holders=holders, optional="None" in words)


def _said(bound: float) -> str:
    """A bound as it is written."""
    exponent = int(bound).bit_length() - 1
    return f"2**{exponent}" if exponent > 31 and bound == 2**exponent else f"{bound:g}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))
