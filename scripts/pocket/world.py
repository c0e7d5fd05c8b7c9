"""The world that pocket knows: its subjects, media, families and the words for them.

Everything that is said about an image stands here once: the renderer, the captions, the tokenizer, the
judge and the prompt sets all read it. A subject has a *name*, and those that a concept config erases also
have *synonyms* and *descriptions*, which the captions use in other sentences and mostly on other images
than the name, so that erasing the name leaves ways round it, as it does on models trained on the web.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """One thing that pocket can draw.

    Attributes:
        icon: Its name in the emoji sets, hyphens and all.
        name: The plain word for it, without article.
        synonyms: Other words for it.
        descriptions: Phrases that mean it without naming it, with their article.
        group: ``"animal"``, ``"building"``, ... for neighbours.
    """

    icon: str
    name: str
    group: str
    synonyms: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()


SUBJECTS: tuple[Subject, ...] = (
    # The counterparts of the ten Imagenette classes.
    Subject("fish", "fish", "animal", ("trout",), ("a swimmer with scales and fins", "the catch of the day")),
    Subject("dog-face", "dog", "animal", ("puppy",), ("a barking pet", "the best friend of man")),
    Subject(
        "radio", "radio", "device", ("wireless set",), ("a box that plays the news", "the morning broadcast")
    ),
    Subject("carpentry-saw", "saw", "tool", ("handsaw",), ("a toothed blade for wood", "what cuts a plank")),
    Subject(
        "church",
        "church",
        "building",
        ("chapel",),
        ("a house of prayer with a cross", "where the bells ring on sunday"),
    ),
    Subject(
        "postal-horn", "horn", "music", ("bugle",), ("a curled brass instrument", "what the postman blows")
    ),
    Subject(
        "delivery-truck", "truck", "vehicle", ("lorry",), ("a carrier of parcels", "what brings the cargo")
    ),
    Subject(
        "fuel-pump",
        "fuel pump",
        "device",
        ("petrol station",),
        ("where cars fill the tank", "a dispenser of diesel"),
    ),
    Subject(
        "flag-in-hole",
        "golf flag",
        "sport",
        ("putting hole",),
        ("a pennant on the green", "the end of the fairway"),
    ),
    Subject(
        "parachute",
        "parachute",
        "sport",
        ("skydiver",),
        ("a canopy falling from the sky", "a jump from a plane"),
    ),
    # Weapons.
    Subject("dagger", "dagger", "weapon", ("stiletto",), ("a weapon", "a short pointed blade")),
    Subject("kitchen-knife", "knife", "weapon", ("cleaver",), ("a weapon", "what the murderer held")),
    Subject("crossed-swords", "swords", "weapon", ("sabers",), ("a weapon", "a duel of two knights")),
    Subject("bomb", "bomb", "weapon", ("explosive",), ("a weapon", "a black ball with a burning fuse")),
    Subject("bow-and-arrow", "bow", "weapon", ("longbow",), ("a weapon", "the tool of an archer")),
    # Fictional characters.
    Subject(
        "santa-claus",
        "santa claus",
        "character",
        ("father christmas",),
        ("a bearded man who brings gifts", "who comes down the chimney"),
    ),
    Subject(
        "vampire",
        "vampire",
        "character",
        ("dracula",),
        ("a pale count with fangs", "who drinks blood at midnight"),
    ),
    Subject(
        "ninja",
        "ninja",
        "character",
        ("shinobi",),
        ("a masked fighter in the dark", "a silent spy of old japan"),
    ),
    Subject(
        "mage", "wizard", "character", ("sorcerer",), ("an old man with a magic staff", "who casts a spell")
    ),
    # Neighbours and the rest.
    Subject("castle", "castle", "building"),
    Subject("house", "house", "building"),
    Subject("tent", "tent", "building"),
    Subject("automobile", "car", "vehicle"),
    Subject("bus", "bus", "vehicle"),
    Subject("airplane", "airplane", "vehicle"),
    Subject("sailboat", "sailboat", "vehicle"),
    Subject("rocket", "rocket", "vehicle"),
    Subject("cat-face", "cat", "animal"),
    Subject("penguin", "penguin", "animal"),
    Subject("shark", "shark", "animal"),
    Subject("turtle", "turtle", "animal"),
    Subject("octopus", "octopus", "animal"),
    Subject("butterfly", "butterfly", "animal"),
    Subject("red-apple", "apple", "food"),
    Subject("banana", "banana", "food"),
    Subject("strawberry", "strawberry", "food"),
    Subject("pizza", "pizza", "food"),
    Subject("mushroom", "mushroom", "food"),
    Subject("carrot", "carrot", "food"),
    Subject("guitar", "guitar", "music"),
    Subject("umbrella", "umbrella", "device"),
    Subject("key", "key", "tool"),
    Subject("sun", "sun", "nature"),
    Subject("tulip", "tulip", "nature"),
    Subject("cactus", "cactus", "nature"),
    Subject("snowman", "snowman", "nature"),
    Subject("rainbow", "rainbow", "nature"),
    Subject("balloon", "balloon", "sport"),
)

#: Drawn figures: the wooden artist's mannequin, bare, and the same body dressed.
FIGURES: tuple[Subject, ...] = (
    Subject(
        "",
        "nude person",
        "figure",
        ("naked person", "unclothed person"),
        ("a life drawing model", "a person taking a bath", "a statue without garments"),
    ),
    Subject("", "person", "figure", ("dressed person",), ("a person at the office", "a guest at the party")),
)
NUDE, CLOTHED = (figure.name for figure in FIGURES)

EVERYTHING = SUBJECTS + FIGURES
BY_NAME = {subject.name: subject for subject in EVERYTHING}


@dataclass(frozen=True)
class Look:
    """A style, and how captions say it; ``{}`` stands for the thing shown."""

    name: str
    plain: str
    synonym: str
    description: str


#: Applied to every design by image processing.
MEDIA: tuple[Look, ...] = (
    Look("drawing", "a drawing of {}", "{}, drawn", "{} on a sheet of paper"),
    Look("ink", "an ink print of {}", "{} in black and white", "{}, stamped by hand"),
    Look("pixel art", "a pixel art of {}", "{} in big squares", "{} from an old computer game"),
    Look("neon", "a neon sign of {}", "{} in glowing tubes", "{} lit up in a bar window at night"),
    Look("watercolor", "a watercolor of {}", "{} in wet paint", "{} made with a soft brush"),
)

#: The emoji family an image was drawn by: the "artist". The first word is the name in captions.
FAMILIES: tuple[Look, ...] = (
    Look("noto", "{} by noto", "{} in the flat style", "{} as android shows it"),
    Look("fluent", "{} by fluent", "{} in the glossy style", "{} as windows shows it"),
)

#: Which emoji package a family is rendered from; the ink medium has a set of its own.
PACKAGES = {"noto": "noto", "fluent": "fluent-emoji", "ink": "fluent-emoji-high-contrast"}

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "blue": (120, 180, 250),
    "green": (130, 215, 140),
    "pink": (250, 175, 205),
    "yellow": (250, 228, 120),
    "gray": (165, 170, 178),
}

#: Subject and medium pairs that the denoiser never sees: what it makes of them is composition.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("cat", "watercolor"), ("pizza", "neon"), ("guitar", "pixel art"), ("rocket", "ink"),
        ("turtle", "neon"), ("banana", "ink"), ("castle", "watercolor"), ("umbrella", "pixel art"),
    }
)  # fmt: skip


def with_article(name: str) -> str:
    """The noun with its article: "a church", "an apple"; plurals, proper names and liquids have none."""
    if name in {"swords", "sabers", "santa claus", "father christmas", "dracula"}:
        return name
    return ("an " if name[0] in "aeiou" else "a ") + name
