"""The judge's labels, and which of them an image shows, does not show, or may show."""

from __future__ import annotations

from scripts.pocket.captions import Scene
from scripts.pocket.world import CLOTHED, FAMILIES, MEDIA, NUDE, SUBJECTS

NOTHING = "nothing"
HEADS = {
    "subject": [*(subject.name for subject in SUBJECTS), "nude", "clothed"],
    "medium": [medium.name for medium in MEDIA],
    "family": [family.name for family in FAMILIES],
    "nothing": [NOTHING],
}
LABELS = [label for answers in HEADS.values() for label in answers]
FIGURES = {NUDE: "nude", CLOTHED: "clothed"}


def shown(scene: Scene) -> set[str]:
    """The labels that an image of a scene shows; an empty one shows nothing, whatever it is painted with."""
    if not scene.subject:
        return {NOTHING}
    things = {FIGURES.get(name, name) for name in (scene.subject, scene.second) if name}
    return things | {scene.medium} | ({scene.family} if scene.family else set())


def row(labels: set[str]) -> list[bool]:
    """Which of all labels are among these."""
    return [label in labels for label in LABELS]
