"""How often a judge errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Errors:
    """Counts over images whose content is known.

    Attributes:
        seen: Images that show the label and that the judge says so of.
        shown: Images that show it.
        cleared: Images that do not show it and that the judge does not see it in.
        absent: Images that do not show it.
        on: What the images are.
    """

    seen: int
    shown: int
    cleared: int
    absent: int
    on: str


def any_of(errors: Sequence[Errors]) -> Errors:
    """Of the answer whether an image shows any of several labels, at worst: false alarms add up.

    Arguments:
        errors: Of each label, at least one.
    """
    absent = min(one.absent for one in errors)
    alarms = sum((one.absent - one.cleared) / one.absent for one in errors)
    cleared = round(absent * max(0.0, 1 - alarms))
    return Errors(sum(e.seen for e in errors), sum(e.shown for e in errors), cleared, absent, errors[0].on)


def pooled(errors: Sequence[Errors]) -> Errors:
    """Of images some of which are asked for one thing and some for another.

    Arguments:
        errors: Of each thing, at least one.
    """
    seen, shown = sum(one.seen for one in errors), sum(one.shown for one in errors)
    cleared, absent = sum(one.cleared for one in errors), sum(one.absent for one in errors)
    return Errors(seen, shown, cleared, absent, errors[0].on)
