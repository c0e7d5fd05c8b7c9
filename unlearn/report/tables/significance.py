"""Which methods of a table can be told from its best one, score by score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearn.report.tables.outcomes import Outcomes
from unlearn.statistics.clusters import Clusters
from unlearn.statistics.comparisons import holm, paired_p
from unlearn.statistics.power import detectable_paired, needed_pairs

LEVEL = 0.05


@dataclass(frozen=True)
class Against:
    """A method beside the best one on the same prompts and seeds.

    Attributes:
        gained: Images that the method alone shows.
        lost: Images that the best one alone shows.
        n: Images that both were judged on.
        prompts: Prompts that these are of.
        p: Probability of so many changes one way by chance, after Holm for all methods of the score.
        note: What so many images could have told, where they cannot decide; else empty.
    """

    gained: int
    lost: int
    n: int
    prompts: int
    p: float
    note: str


@dataclass(frozen=True)
class Comparison:
    """All methods beside the one whose score is best.

    Attributes:
        best: Its label.
        others: By label.
    """

    best: str
    others: Mapping[str, Against]


def compare(rows: Mapping[str, Outcomes], better: str) -> Comparison | None:
    """Each method beside the best by a score of single images: whether they show something.

    Arguments:
        rows: Outcomes of 0 or 1 by the method's label.
        better: ``"lower"`` or ``"higher"``.

    Returns:
        None if there are fewer than two methods, or none that shares images with the best.
    """
    rates = {label: _mean([value for value, _ in found.values()]) for label, found in rows.items() if found}
    if len(rates) < 2:
        return None
    best = (min if better == "lower" else max)(rates, key=lambda label: rates[label])
    pairs = {label: _pairs(rows[label], rows[best]) for label in rates if label != best}
    pairs = {label: found for label, found in pairs.items() if found[0]}
    adjusted = holm([paired_p(*found) for found in pairs.values()])
    others = {label: _against(*found, p) for (label, found), p in zip(pairs.items(), adjusted, strict=True)}
    return Comparison(best, others) if others else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _pairs(one: Outcomes, other: Outcomes) -> tuple[list[float], list[float], list[str]]:
    """What both say of the images that they share, and their prompts."""
    places = [place for place in one if place in other and one[place][1] == other[place][1]]
    return [one[p][0] for p in places], [other[p][0] for p in places], [one[p][1] for p in places]


def _against(after: Sequence[float], before: Sequence[float], prompts: Sequence[str], p: float) -> Against:
    gained = sum(a > b for a, b in zip(after, before, strict=True))
    lost = sum(a < b for a, b in zip(after, before, strict=True))
    changes = [a - b for a, b in zip(after, before, strict=True)]
    note = power_note(changes, prompts) if p >= LEVEL else ""
    return Against(gained, lost, len(changes), len(set(prompts)), p, note)


def power_note(changes: Sequence[float], prompts: Sequence[str]) -> str:
    """What so many pairs could have told, and how many the difference seen would need.

    Arguments:
        changes: -1, 0 or 1 for each pair.
        prompts: The prompt of each.
    """
    clusters = Clusters.of(changes, prompts)
    n = len(changes)
    # Pairs of one prompt tell less than as many of different prompts.
    lesser = clusters.effective() / n if clusters.number > 1 else 1 / n
    changed, difference = _mean([abs(change) for change in changes]), abs(_mean(changes))
    least = detectable_paired(n * lesser, changed)
    said = (
        f"{n} images could not show any"
        if least is None
        else f"{n} images could show {100 * least:.0f} points"
    )
    if difference == 0:
        return said
    needed = round(needed_pairs(difference, changed) / lesser)
    return f"{said}, the {100 * difference:.0f} seen would need {needed:,}"
