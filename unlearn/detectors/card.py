"""A judge's card: what it said of images whose content is known, by set and label."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from unlearn.detectors.errors import Errors, pooled

ENOUGH = 100
"""Images that a label's errors are told from; below it those of all answers to its question are."""


@dataclass(frozen=True)
class Card:
    """Counts of a judge at one threshold.

    Attributes:
        threshold: That they were taken at.
        sets: By set of images and label: images seen in of those that show it, and clear of those that do
            not.
    """

    threshold: float
    sets: dict[str, dict[str, Errors]]

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Reads what :meth:`to_json` has written."""
        record = json.loads(text)
        sets = {
            name: {label: _errors(counts, name) for label, counts in labels.items()}
            for name, labels in record["sets"].items()
        }
        return cls(float(record["threshold"]), sets)

    def to_json(self) -> str:
        """Its counts, a line for each label: seen, shown, cleared, absent."""
        sets = (
            f'  "{name}": {{\n'
            + ",\n".join(
                f'   "{label}": [{one.seen}, {one.shown}, {one.cleared}, {one.absent}]'
                for label, one in labels.items()
            )
            + "\n  }"
            for name, labels in self.sets.items()
        )
        return f'{{\n "threshold": {self.threshold},\n "sets": {{\n' + ",\n".join(sets) + "\n }\n}\n"

    def errors(self, label: str, question: Iterable[str]) -> Errors | None:
        """Over all sets, of one label, or of all answers to its question if there are too few of it.

        Arguments:
            label: The label.
            question: All labels that answer the same question, itself among them.

        Returns:
            The counts; None if none of these labels is in the card.
        """
        own = self._over_sets([label])
        if own is not None and own.shown >= ENOUGH:
            return own
        return self._over_sets(question)

    def _over_sets(self, labels: Iterable[str]) -> Errors | None:
        wanted = set(labels)
        found = [one for by in self.sets.values() for label, one in by.items() if label in wanted]
        if not any(one.shown for one in found) or not any(one.absent for one in found):
            return None
        every = pooled(found)
        return Errors(every.seen, every.shown, every.cleared, every.absent, on=self.on)

    @property
    def on(self) -> str:
        """What its images are."""
        return f"renders and drawn images, {', '.join(self.sets)}"


def _errors(counts: list[int], on: str) -> Errors:
    seen, shown, cleared, absent = counts
    return Errors(seen, shown, cleared, absent, on)
