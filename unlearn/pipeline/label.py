"""What a run is called."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.store.layout import Seeds


@dataclass(frozen=True)
class Label:
    """What a run is called, and what tells it from others of its method, model and concept.

    Attributes:
        name: Its name, and its folder's.
        fingerprint: Of its configuration.
        method: What was chosen as ``method=``.
        model: What was chosen as ``model=``.
        concept: The concept's name.
        seed: The run's seed.
        seeds: The three seeds in use.
        group: Name of the sweep that it belongs to, if any.
    """

    name: str
    fingerprint: str
    method: str
    model: str
    concept: str
    seed: int
    seeds: Seeds
    group: str | None = None
