"""What is measured after each step of a run; only a sequence of concepts has more than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearn.concepts.concept import ConceptSet
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.metrics.metric import Metric
from unlearn.metrics.needs import expanded, requests
from unlearn.pipeline.erasing import Erased
from unlearn.pipeline.scoring import Scored
from unlearn.store.layout import ScoreEntry, StepEntry

BETWEEN = ("erased", "retained", "unrelated")
"""The scores that are taken after every step; all others only after the last."""

SO_FAR = "so far"
"""The group of all concepts that are erased by a step."""


@dataclass(frozen=True)
class Measurement:
    """What is measured after a step.

    Attributes:
        metrics: By the name of the score.
        attacks: Whether the attacks are among it.
        needed: The images that the metrics need.
        groups: Names of the concepts that are scored by themselves, by the name of their group.
    """

    metrics: Mapping[str, Metric]
    attacks: bool
    needed: Sequence[ImageRequest]
    groups: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Step:
    """What was done, and what it has led to.

    Attributes:
        erased: What this step and those before it did to the original model.
        images: What was drawn with that.
        scored: What the metrics say.
    """

    erased: Erased
    images: Mapping[ImageRequest, ImageSet]
    scored: Scored


def measurements(
    metrics: Mapping[str, Metric],
    attacks: Sequence[str],
    concepts: ConceptSet,
    sequence: Sequence[str] | None,
) -> list[Measurement]:
    """One for each step: all that is asked for after the last, :data:`BETWEEN` after the others.

    After every step of a sequence each concept is scored by itself, those that are still to be erased, too: a
    step may harm them before their time. All steps have the same prompts.

    Arguments:
        metrics: All that is asked for.
        attacks: Names of the attacks.
        concepts: What is erased in all.
        sequence: Names of the concepts in the order in which they are erased; None if all are at once.
    """
    whole = expanded(metrics, attacks)
    needed = requests(whole, concepts, attacks)
    if sequence is None:
        return [Measurement(whole, True, needed, {})]
    few = {name: whole[name] for name in BETWEEN if name in whole}
    fewer = requests(few, concepts, [])
    groups = [
        {SO_FAR: sequence[:count], **{name: [name] for name in sequence}}
        for count in range(1, len(sequence) + 1)
    ]
    between = [Measurement(few, False, fewer, each) for each in groups[:-1]]
    return [*between, Measurement(whole, True, needed, groups[-1])]


def entries(sequence: Sequence[str], steps: Sequence[Step]) -> list[StepEntry]:
    """The steps of a sequence as in ``results.json``."""
    return [_entry(name, step) for name, step in zip(sequence, steps, strict=True)]


def _entry(name: str, step: Step) -> StepEntry:
    cost = step.erased.cost
    return {
        "concept": name,
        "scores": _scores(step.scored),
        "concepts": {
            concept: found["erased"]
            for concept, found in step.scored.groups.items()
            if concept != SO_FAR and "erased" in found
        },
        "drift": float(cost["drift"] or 0.0),
        "erase_seconds": float(cost["seconds"] or 0.0),
        "unet_forwards": int(cost["forwards"] or 0),
    }


def _scores(scored: Scored) -> dict[str, ScoreEntry]:
    """The scores after a step, with that of the concepts that are to be gone by then in the place of all."""
    found = {**scored.scores, **scored.groups[SO_FAR]}
    return {name: found[name] for name in BETWEEN if name in found}
