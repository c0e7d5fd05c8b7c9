"""Sentences around a phrase: templates in which ``{}`` stands for it, and ``{a}`` for it with its article."""

from __future__ import annotations

import csv
import re
from functools import cache
from importlib.resources import files


@cache
def packaged_sentences() -> dict[str, tuple[str, ...]]:
    """Thirty templates for each kind of concept, ours, from ``unlearn/data/sentences.csv``."""
    found: dict[str, list[str]] = {}
    with files("unlearn").joinpath("data", "sentences.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, strict=True):
            found.setdefault(row["kind"], []).append(row["template"])
    return {kind: tuple(templates) for kind, templates in found.items()}


@cache
def packaged_objects() -> tuple[str, ...]:
    """230 everyday objects, ours, from ``unlearn/data/objects.csv``."""
    with files("unlearn").joinpath("data", "objects.csv").open(encoding="utf-8") as file:
        return tuple(row["object"] for row in csv.DictReader(file, strict=True))


def fill(template: str, phrase: str) -> str:
    """The sentence that a template makes of a phrase."""
    return template.format(phrase, a=with_article(phrase))


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an", unless it has an article, is a name (all capitalised) or a plural.

    The empty phrase stays empty, and one with a preposition, such as "by van gogh", is left as it is.
    """
    if not phrase.strip() or phrase.split()[0].lower() in {"a", "an", "the", "some", "by", "in", "on"}:
        return phrase
    if phrase.istitle() or (phrase.endswith("s") and not phrase.endswith(("ss", "us", "is"))):
        return phrase
    return ("an " if phrase[0].lower() in "aeiou" else "a ") + phrase


def says(sentence: str, phrase: str) -> bool:
    """Whether a sentence has the words of a phrase in it, whatever their case."""
    return spoken(phrase) in spoken(sentence)


def spoken(text: str) -> str:
    """The words of a text in small letters, with a blank before and after each."""
    words = " ".join(re.findall(r"\w+", text.lower()))
    return f" {words} "
