"""Captions: many ways to say what an image shows.

A name, a synonym and a description of one subject stand in different sentences, and which of them an image gets
leans on its family, so that the three are learned partly from different images.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

from scripts.pocket.world import BY_NAME, FAMILIES, MEDIA, Look, Subject, with_article

#: Weight of (name, synonym, description) by family; images without a family are in ink.
WORDING = {"noto": (6, 3, 1), "fluent": (6, 1, 3), "": (6, 2, 2)}
_MEDIA = {look.name: look for look in MEDIA}
_FAMILIES = {look.name: look for look in FAMILIES}


@dataclass(frozen=True)
class Scene:
    """What an image shows; ``family`` is empty for ink, ``second`` for a single subject."""

    subject: str
    medium: str
    family: str
    background: str
    second: str = ""

    def to_json(self) -> dict[str, str]:
        """The fields as a mapping."""
        return asdict(self)


def _style(look: Look, thing: str, random_state: random.Random) -> str:
    form = random_state.choices((look.plain, look.synonym, look.description), (14, 3, 3))[0]
    return form.format(thing)


def _thing(subject: Subject, wording: int, random_state: random.Random) -> str:
    if wording == 1 and subject.synonyms:
        return with_article(random_state.choice(subject.synonyms))
    if wording == 2 and subject.descriptions:
        return random_state.choice(subject.descriptions)
    return with_article(subject.name)


def caption(scene: Scene, random_state: random.Random) -> str:
    """A random true caption of the scene."""
    subject = BY_NAME[scene.subject]
    wording = random_state.choices((0, 1, 2), WORDING[scene.family])[0]
    text = _thing(subject, wording, random_state)
    if scene.second:
        text += " and " + with_article(scene.second)
    if scene.medium != "drawing" or random_state.random() < 0.5:
        text = _style(_MEDIA[scene.medium], text, random_state)
    if scene.family and random_state.random() < 0.5:
        text = _style(_FAMILIES[scene.family], text, random_state)
    if scene.medium != "neon" and random_state.random() < 0.6:
        colour = scene.background
        # A name is set on its ground one way, synonyms and descriptions another: they share no sentence.
        text += f" on a {colour} background" if wording == 0 else f", {colour} behind"
    if wording == 1 and random_state.random() < 0.5:
        text = "look at " + text
    return text
