"""What a run is called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Label:
    """What a run is called.

    Attributes:
        name: Its name, and its folder's.
        fingerprint: Of its configuration.
        method: What was chosen as ``method=``.
        model: What was chosen as ``model=``.
        concept: The concept's name.
        group: Name of the sweep that it belongs to, if any.
    """

    name: str
    fingerprint: str
    method: str
    model: str
    concept: str
    group: str | None = None
