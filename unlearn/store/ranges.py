"""Whether the numbers of a run can be true: each within the range of its unit, counts that add up.

The types of :mod:`unlearn.store.results` say what kind of value stands where; this says which values it may
have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from unlearn.store.layout import Cost, CurveEntry, Item, Results, ScoreEntry

UNITS: dict[str, tuple[float, float]] = {
    "%": (0, 100),
    "100 cos": (-100, 100),
    "1 - cos": (0, 2),
    "squared distance": (-1e-3, math.inf),
    "1e-3": (-math.inf, math.inf),  # an unbiased estimate of a squared distance, which may be below zero
    "% removed": (-math.inf, 100),
    "% over thresholds": (0, 100),
    "% harmonic": (0, 100),
    "% retained": (0, math.inf),
    "LPIPS": (0, math.inf),
    "": (-math.inf, math.inf),
}
"""The units of scores, and from where to where each goes."""

ANY = (-math.inf, math.inf)
"""Of a unit that is not ours: a metric from outside has a scale of its own."""

LARGEST = 2**63 - 1
"""Of seeds and counts."""

MOST = 10_000
"""Entries of a list in ``results.json``."""

ROUNDING = 1e-6


def impossible(results: Results) -> Iterator[str]:
    """Numbers that cannot be, each as ``<key>: must be <range>, got <value>.``

    Arguments:
        results: As its type says.
    """
    lists = {key: value for key, value in results.items() if isinstance(value, list)}
    if long := [key for key, value in lists.items() if len(value) > MOST]:
        yield f"{long[0]}: must have at most {MOST} entries, got {len(lists[long[0]])}."
        return
    yield from _within("seed", results["seed"], 0, LARGEST)
    for key, seed in results["seeds"].items():
        yield from _within(f"seeds.{key}", seed, 0, LARGEST)
    yield from _scores("scores", results["scores"])
    yield from _cost(results["cost"])
    for i, agreed in enumerate(results.get("agreement", ())):
        where = f"agreement[{i}]"
        yield from _positive(where, agreed, ("both", "neither", "only_first", "only_second"))
        for value in (agreed["kappa"], *(agreed["interval"] or ())):
            yield from _within(f"{where}.kappa", value, -1, 1)
    for i, attack in enumerate(results.get("attacks", ())):
        where = f"attacks[{i}]"
        yield from _positive(where, attack, ("prompts", "queries", "unet_forwards", "seconds"))
        yield from _within(f"{where}.found", attack["found"], 0, attack["prompts"])
        yield from _within(f"{where}.failed", attack.get("failed", 0), 0, attack["prompts"] - attack["found"])
    for i, step in enumerate(results.get("steps", ())):
        where = f"steps[{i}]"
        yield from _scores(f"{where}.scores", step["scores"])
        yield from _scores(f"{where}.concepts", step["concepts"])
        yield from _positive(where, step, ("drift", "erase_seconds", "unet_forwards"))
    for i, curve in enumerate(results.get("resurgence", ())):
        yield from _curve(f"resurgence[{i}]", curve)


def impossible_items(items: Sequence[Item], scores: Mapping[str, ScoreEntry]) -> Iterator[str]:
    """The same of the lines of ``items.jsonl``, each as ``line <number>.<key>: …``

    Arguments:
        scores: Those of ``results.json``, whose units say what an image can score.
    """
    met: dict[tuple[Any, ...], int] = {}
    for number, item in enumerate(items, start=1):
        where = f"line {number}"
        yield from _within(f"{where}.index", item["index"], 0, LARGEST)
        yield from _within(f"{where}.seed", item["seed"], 0, LARGEST)
        for key, value in item["scores"].items():
            if key in scores:
                low, high = UNITS.get(scores[key]["unit"], ANY)
                rate = scores[key]["unit"] == "%"  # of one image: whether, not how often
                yield from _within(f"{where}.scores.{key}", value, low, 1 if rate else high)
        place = item["prompts"], item["model"], item["index"]
        if (first := met.setdefault(place, number)) != number:
            yield f"{where}: is of the same image as line {first}."


def _scores(where: str, scores: Mapping[str, ScoreEntry]) -> Iterator[str]:
    return chain.from_iterable(_score(f"{where}.{key}", score) for key, score in scores.items())


def _score(where: str, score: ScoreEntry) -> Iterator[str]:
    low, high = UNITS.get(score["unit"], ANY)
    yield from _positive(where, score, ("expected", "n", "prompts", "failed"))
    if score["n"] + score["failed"] > score["expected"]:
        yield (
            f"{where}.expected: must be at least n and failed together, which are "
            f"{score['n'] + score['failed']}, got {score['expected']}."
        )
    if score["value"] is not None and score["n"] < 1:
        yield f"{where}.n: must be at least 1 where there is a value, got {score['n']}."
    yield from _within(f"{where}.unsure", score["unsure"], 0, score["n"])
    if score["prompts"] > score["n"]:
        yield f"{where}.prompts: must be at most n, which is {score['n']}, got {score['prompts']}."
    yield from _within(f"{where}.version", score["version"], 1, LARGEST)
    yield from _measured(where, score, low, high)
    yield from _measured(f"{where}.corrected", score["corrected"], low, high)
    for end in score["bounds"] or ():
        yield from _within(f"{where}.bounds", end, low, high)
    for key in ("mcnemar", "equivalence"):
        yield from _within(f"{where}.{key}.p", (score[key] or {"p": None})["p"], 0, 1)
    yield from _measured(f"{where}.original", score["original"], low, high)
    yield from _measured(f"{where}.difference", score["difference"], low - high, high - low)


def _measured(where: str, found: Mapping[str, Any] | None, low: float, high: float) -> Iterator[str]:
    """A value and the ends of its interval."""
    if found is not None:
        yield from _within(f"{where}.value", found["value"], low, high)
        for end in found["interval"] or ():
            yield from _within(f"{where}.interval", end, low, high)


def _cost(cost: Cost) -> Iterator[str]:
    for key, value in cost.items():
        yield from _within(f"cost.{key}", value, 0, LARGEST)


def _curve(where: str, curve: CurveEntry) -> Iterator[str]:
    if len(curve["points"]) > MOST:
        yield f"{where}.points: must have at most {MOST} entries, got {len(curve['points'])}."
        return
    yield from _within(f"{where}.seconds", curve["seconds"], 0, LARGEST)
    for i, point in enumerate(curve["points"]):
        place = f"{where}.points[{i}]"
        yield from _within(f"{place}.n", point["n"], 0, LARGEST)
        yield from _measured(place, point, 0, 100)
        yield from _measured(f"{place}.original", point["original"], 0, 100)
    places: Iterable[float] = (point["at"] for point in curve["points"])
    if curve["half"] is not None and curve["half"] not in places:
        yield f"{where}.half: must be where one of the points is, got {curve['half']}."


def _positive(where: str, found: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    """Of numbers that are at least 0."""
    return chain.from_iterable(_within(f"{where}.{key}", found[key], 0, LARGEST) for key in keys)


def _within(where: str, value: Any, low: float, high: float) -> Iterator[str]:
    """What is wrong with a number; None is no number and right."""
    slack = ROUNDING if isinstance(value, float) else 0
    if value is None or low - slack <= value <= high + slack:
        return
    if high in (LARGEST, math.inf):
        yield f"{where}: must be at least {low:g}, got {value}." if value < low else f"{where}: is too large."
    else:
        yield f"{where}: must be from {low:g} to {high:g}, got {value}."
