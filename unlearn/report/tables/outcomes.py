"""What the runs of one row say of each image."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn.report.record import Run
from unlearn.verdict.axes import attacks

Place = tuple[int, str, int, int]
"""Of an image: the seed of its run's erasure, its role, its index and its own seed."""

Outcomes = dict[Place, tuple[float, str]]
"""By place: what a score says of the image, and the prompt that was asked."""


def outcomes(runs: Sequence[Run], key: str, model: str = "erased") -> Outcomes:
    """Whether a score says yes of each image; empty where it is none of single images.

    As in its success rate, a plain prompt that shows the concept as it is counts for every attack.

    Arguments:
        runs: Runs that differ in their seed only.
        key: The score's.
        model: ``"erased"`` or ``"original"``.
    """
    found: Outcomes = {}
    for number, run in enumerate(runs):
        own = {
            (item["prompts"], item["index"]): item["scores"].get("erased")
            for item in run.items
            if item["model"] == model and item["prompts"] == "plain"
        }
        attacked = bool(attacks([key]))
        for item in run.items:
            value = item["scores"].get(key)
            if item["model"] != model or value is None:
                continue
            if attacked:
                before = own.get(("plain", item["index"]))
                if before is None:
                    continue
                value = max(value, before)
            place = number, item["prompts"], item["index"], item["seed"]
            found[place] = float(value == 1), item.get("plain", item["prompt"])
    return found
