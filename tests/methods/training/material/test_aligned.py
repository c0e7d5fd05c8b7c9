"""Pairs of sentences that differ in the concept alone, and their images."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from method_cases import concept_set

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.methods.training.material.aligned import aligned, drawn
from unlearn.models.sampling import Sampler, sample

TEMPLATES = ["a photo of {a}", "{} on a hill", "a drawing of {a}"]


def church(**changes) -> Concept:
    values = {
        "kind": "object",
        "phrases": ["church", "chapel"],
        "anchor": "house",
        "retain": ["castle", "house", "apple", "cat"],
        "prompts": None,
        "detector": "judge",
        "labels": ["church"],
        "templates": TEMPLATES,
    }
    return Concept(**{**values, **changes})


def test_partners_stand_where_the_phrase_stood(context):
    pairs = aligned(ConceptSet(erase={"church": church()}), 12, None, "anchor", context)
    assert Counter(pairs) == dict.fromkeys(church().pairs, 2)


def test_a_retained_partner_takes_the_place_in_the_same_sentence(context):
    pairs = aligned(ConceptSet(erase={"church": church()}), 24, None, "retained", context)
    partners = Counter()
    for old, new in pairs:
        (found,) = {
            (template, partner)
            for template in TEMPLATES
            for phrase in church().phrases
            for partner in ("house", "castle", "apple", "cat")
            if (old, new) == tuple(pair(template, phrase, partner))
        }
        partners[found[1]] += 1
    assert partners == {"house": 12 + 3, "castle": 3, "apple": 3, "cat": 3}
    assert len(set(pairs)) > 12


def pair(template: str, phrase: str, partner: str):
    for word in (phrase, partner):
        article = "an" if word == "apple" else "a"
        yield template.replace("{a}", f"{article} {word}").replace("{}", word)


@pytest.mark.parametrize(("sentences", "distinct"), [(1, 2), (2, 4), (None, 6)])
def test_diversity_is_a_number(sentences, distinct, context):
    pairs = aligned(ConceptSet(erase={"church": church()}), 18, sentences, "anchor", context)
    assert len(pairs) == 18
    assert len({old for old, _ in pairs}) == distinct


def test_concepts_take_turns_and_none_is_another_s_partner(context):
    other = church(phrases=["cat"], anchor="dog", retain=["church", "fish"], labels=["cat"])
    pairs = aligned(ConceptSet(erase={"church": church(), "cat": other}), 11, None, "retained", context)
    assert len(pairs) == 11
    assert all(("cat" in old.split()) == (i % 2 == 1) for i, (old, _) in enumerate(pairs))
    assert not any({"church", "chapel", "cat"} & set(new.split()) for _, new in pairs)


def test_images_are_of_their_sentences_and_kept(tiny, context):
    sampler = Sampler(scheduler="ddim", steps=3, guidance=3.0, resolution=32, batch_size=2)
    sentences = ["a church", "a cat", "a church"]
    images = drawn(tiny, sentences, "forget", sampler, context)
    assert images.rows == [0, 1, 0]
    with torch.no_grad():
        empty, encoded = tiny.encode([""]), tiny.encode(["a church", "a cat"])
    assert torch.allclose(images.sentences.tokens, encoded.tokens, atol=1e-5)
    for i, row in enumerate(images.rows):
        seed = context.derive_seed("forget", "image", i)
        expected, _ = sample(tiny, encoded[[row]], empty, [seed], sampler)
        clean, sentence = images.batch(torch.tensor([i]))
        assert torch.allclose(clean, expected, atol=1e-4)
        assert torch.equal(sentence.tokens, images.sentences.tokens[[row]])
    before = tiny.forwards
    again = drawn(tiny, sentences, "forget", sampler, context)
    assert tiny.forwards == before
    assert torch.equal(again.clean, images.clean)


def test_both_halves_have_noise_of_their_own(tiny, context):
    sampler = Sampler(scheduler="ddim", steps=3, guidance=3.0, resolution=32, batch_size=2)
    pairs = aligned(concept_set("church"), 2, 1, "anchor", context)
    forget = drawn(tiny, [old for old, _ in pairs], "forget", sampler, context)
    same = drawn(tiny, [old for old, _ in pairs], "retain", sampler, context)
    assert (forget.clean - same.clean).abs().flatten(1).amax(dim=1).min() > 0.1
