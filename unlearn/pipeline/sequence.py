"""What is measured after each step of a run; only a sequence of concepts has more than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.config.schemas import RunConfig
from unlearn.metrics.metric import Metric
from unlearn.metrics.needs import expanded, requests
from unlearn.pipeline.stages import Erased, Scored
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


def measurements(config: RunConfig) -> list[Measurement]:
    """One for each step: all that the evaluation asks for after the last, :data:`BETWEEN` after the others.

    After every step of a sequence each concept is scored by itself, those that are still to be erased, too: a
    step may harm them before their time. All steps have the same prompts.
    """
    attacks, concepts = list(config.eval.attacks), config.concepts
    whole = expanded(config.eval.metrics, attacks)
    needed = requests(whole, concepts, attacks)
    if config.concept.sequence is None:
        return [Measurement(whole, True, needed, {})]
    few = {name: whole[name] for name in BETWEEN if name in whole}
    names = config.concept.sequence
    found = []
    for last in range(len(names)):
        groups = {SO_FAR: names[: last + 1], **{name: [name] for name in names}}
        if last < len(names) - 1:
            found.append(Measurement(few, False, requests(few, concepts, []), groups))
        else:
            found.append(Measurement(whole, True, needed, groups))
    return found


def entries(config: RunConfig, steps: Sequence[Step]) -> list[StepEntry]:
    """The steps of a sequence as in ``results.json``."""
    return [
        {
            "concept": name,
            "scores": _scores(step.scored),
            "concepts": {
                concept: found["erased"]
                for concept, found in step.scored.groups.items()
                if concept != SO_FAR and "erased" in found
            },
            "drift": float(step.erased.cost["drift"] or 0.0),
            "erase_seconds": float(step.erased.cost["seconds"] or 0.0),
            "unet_forwards": int(step.erased.cost["forwards"] or 0),
        }
        for name, step in zip(config.concept.sequence or (), steps, strict=True)
    ]


def _scores(scored: Scored) -> dict[str, ScoreEntry]:
    """The scores after a step, with that of the concepts that are to be gone by then in the place of all."""
    found = {**scored.scores, **scored.groups[SO_FAR]}
    return {name: found[name] for name in BETWEEN if name in found}
