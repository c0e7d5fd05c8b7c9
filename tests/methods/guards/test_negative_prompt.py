"""The negative prompt, and the words that guards look out for."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.guards.negative_prompt import NegativePromptGuard
from unlearn.methods.guards.wording import Wording
from unlearn.models.sampling import Sampler, draw, sample

SAMPLER = Sampler(scheduler="ddim", steps=4, guidance=3.0, resolution=32, batch_size=4)


def test_it_takes_the_place_of_the_empty_prompt_at_no_cost(tiny):
    prompts, seeds = ["a cat", "a church"], [3, 4]
    before = tiny.forwards
    (drawn,) = draw(tiny, prompts, seeds, SAMPLER, guard=NegativePromptGuard(text="a nude person"))
    assert tiny.forwards - before == 2 * 2 * SAMPLER.steps
    latents, _ = sample(tiny, tiny.encode(prompts), tiny.encode(["a nude person"]), seeds, SAMPLER)
    assert torch.allclose(drawn, tiny.decode(latents), atol=1e-5)
    (plain,) = draw(tiny, prompts, seeds, SAMPLER)
    assert not torch.allclose(drawn, plain, atol=1e-3)


@pytest.mark.parametrize(("world", "text"), [("sd", "church, apple"), ("pocket", "a church, an apple")])
def test_it_is_worded_for_the_world(world, text, tiny, context):
    method = configured("negative_prompt", world=world)
    assert method.erase(tiny, concept_set("church", "apple"), context).guard == NegativePromptGuard(text=text)


def test_a_kind_may_have_words_of_its_own():
    objects, nudity = concept_set("church"), concept_set("nude", kind="nudity")
    both = ConceptSet(erase=objects.erase | nudity.erase)
    wording = Wording(phrases={"nudity": ["bare", "church", "naked"]}, template="one {}")
    assert wording.of(both) == ["one church", "one bare", "one naked"]
    assert wording.of(objects) == ["one church"]


def test_the_words_for_stable_diffusion_fit_its_text_encoder():
    open_clip = pytest.importorskip("open_clip")
    tokenizer = open_clip.get_tokenizer("ViT-L-14")
    wording = configured("negative_prompt").wording
    assert len(wording.phrases["nudity"]) == 17  # as many as in SAFREE's release
    for phrases in wording.phrases.values():
        assert len(set(phrases)) == len(phrases)
        assert len(tokenizer.encode(", ".join(phrases))) <= 75


def test_more_than_the_text_encoder_reads_is_refused(tiny, context):
    many = concept_set(*(f"church {i}" for i in range(40)))
    with pytest.raises(ConfigError, match=r"method.wording: all phrases together .* 1 of 1 are too long"):
        configured("negative_prompt").erase(tiny, many, context)


@pytest.mark.parametrize(
    ("phrases", "template", "message"),
    [
        ({"nudty": ["x"]}, "{}", "phrases: Unknown kind of concept 'nudty'. Did you mean 'nudity'"),
        ({"nudity": []}, "{}", r"phrases.nudity: needs at least one, and none may be empty, got \[\]"),
        ({"nudity": ["x", " "]}, "{}", "phrases.nudity: needs at least one, and none may be empty"),
        ({}, "a photo", "template: must be a text with {} or {a}, got 'a photo'"),
    ],
)
def test_wrong_words(phrases, template, message):
    with pytest.raises(ValueError, match=message):
        Wording(phrases=phrases, template=template)
