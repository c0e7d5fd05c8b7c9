"""Captions that stand for what stays."""

from __future__ import annotations

from method_cases import concept_set

from unlearn.methods.captions import captions


def test_captions_hold_what_is_retained_and_nothing_that_is_erased():
    concepts = concept_set("cat", retain=["house"])
    texts = captions(concepts, 15)
    assert texts[:15] == concepts.retained_sentences(15)
    assert len(texts) == len(set(texts)) == 15 + 11 * 15
    assert not any("cat" in text.split() for text in texts)
