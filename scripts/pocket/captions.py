"""Captions: many ways to say what an image shows.

A name, a synonym and a description of one subject stand in different sentences, and which of them an image
gets leans on its family, so that the three are learned partly from different images.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

from scripts.pocket.world import BY_NAME, FAMILIES, MEDIA, Look, Subject, with_article

#: Weight of (name, synonym, description) for a look, and for a subject by the family of its image.
STYLING = (14, 3, 3)
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


def _thing(subject: Subject, wording: int, random_state: random.Random) -> str:
    if wording == 1 and subject.synonyms:
        return with_article(random_state.choice(subject.synonyms))
    if wording == 2 and subject.descriptions:
        return random_state.choice(subject.descriptions)
    return with_article(subject.name)


def caption(
    scene: Scene,
    random_state: random.Random,
    *,
    wording: int | None = None,
    style: int | None = None,
    name_family: bool | None = None,
) -> str:
    """A random true caption of the scene.

    Arguments:
        scene: What the image shows.
        random_state: Decides all that is not given.
        wording: How the subject is said: 0 by its name, 1 by a synonym, 2 by a description.
        style: How medium and family are said, in the same way.
        name_family: Whether the family is said; every second time if it is not given.
    """
    if wording is None:
        wording = random_state.choices((0, 1, 2), WORDING[scene.family])[0]

    def in_look(look: Look, thing: str) -> str:
        form = random_state.choices((0, 1, 2), STYLING)[0] if style is None else style
        return (look.plain, look.synonym, look.description)[form].format(thing)

    text = _thing(BY_NAME[scene.subject], wording, random_state)
    if scene.second:
        text += " and " + with_article(scene.second)
    if scene.medium != "drawing" or random_state.random() < 0.5:
        text = in_look(_MEDIA[scene.medium], text)
    if scene.family and (random_state.random() < 0.5 if name_family is None else name_family):
        text = in_look(_FAMILIES[scene.family], text)
    if scene.medium != "neon" and random_state.random() < 0.6:
        # A name is set on its ground one way, synonyms and descriptions another: they share no sentence.
        text += f" on a {scene.background} background" if wording == 0 else f", {scene.background} behind"
    if wording == 1 and random_state.random() < 0.5:
        text = "look at " + text
    return text
