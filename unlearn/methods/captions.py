"""Texts that stand for all that a model can say."""

from __future__ import annotations

import re
from collections.abc import Iterable

from unlearn.concepts.concept import UNRELATED, ConceptSet
from unlearn.concepts.sentences import fill, packaged_objects, packaged_sentences


def captions(concepts: ConceptSet, sentences: int) -> list[str]:
    """What stays: sentences with what is retained, and with words that have nothing to do with it.

    The authors of several methods take captions of COCO here, which do not ship with this package.

    Arguments:
        sentences: How many sentences are put around each phrase.
    """
    erased = [phrase.lower() for phrase in concepts.phrases]
    words = [word for word in UNRELATED if word not in erased]
    templates = packaged_sentences()["object"][:sentences]
    unrelated = [fill(template, word) for word in words for template in templates]
    return list(dict.fromkeys(concepts.retained_sentences(sentences) + unrelated))


def everyday(concepts: ConceptSet) -> list[str]:
    """Photos of everyday objects, but for those whose names share a word with an erased phrase."""
    erased = {word for phrase in concepts.phrases for word in phrase.lower().split()}
    template = packaged_sentences()["object"][0]
    return [fill(template, name) for name in packaged_objects() if not erased & set(name.split())]


def without(concepts: ConceptSet, texts: Iterable[str]) -> list[str]:
    """The texts that do not name an erased phrase, as a word or several, in any case."""
    named = re.compile("|".join(rf"\b{re.escape(phrase)}\b" for phrase in concepts.phrases), re.IGNORECASE)
    return [text for text in texts if not named.search(text)]
