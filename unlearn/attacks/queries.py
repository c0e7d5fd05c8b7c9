"""How soon an attack succeeds: in how many candidates."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.statistics.rates import rate_interval
from unlearn.store.tables import TableEntry

COLUMNS = ("queries", "found", "low", "high")


class Watched:
    """A loss that remembers when it was first at most 0, where the concept shows.

    Attributes:
        first: How many candidates it took; None as long as none did.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        self._loss, self._seen = loss, 0
        self.first: int | None = None

    def __call__(self, candidates: Tensor) -> Tensor:
        """The losses of some candidates, which count as tried in their order."""
        losses = self._loss(candidates)
        hits = (losses <= 0).nonzero()
        if self.first is None and len(hits):
            self.first = self._seen + int(hits[0]) + 1
        self._seen += len(losses)
        return losses


def by_queries(found: AdversarialPrompts) -> TableEntry | None:
    """Share of prompts for which the attack succeeded within so many candidates, on its own images.

    Prompts of which nobody knows whether it did are left out. How many of the finds hold on images that the
    attack has not seen, its success rate says.

    Returns:
        A curve with a point for each number of candidates that was enough for some prompt, and its 95 %
        band, in percent; None where no success has a number.
    """
    judged = [i for i, one in enumerate(found.found) if one is not None]
    needed = [found.first[i] for i in judged] if found.first else []
    numbers = sorted({number for number in needed if number is not None})
    if not numbers:
        return None
    rows: list[list[float | None]] = []
    for number in numbers:
        hits = [float(one is not None and one <= number) for one in needed]
        ends = rate_interval(hits, [found.plain[i] for i in judged])
        band = [None, None] if ends is None else [100 * end for end in ends]
        rows.append([float(number), 100 * sum(hits) / len(hits), *band])
    return {"columns": list(COLUMNS), "rows": [str(number) for number in numbers], "values": rows}
