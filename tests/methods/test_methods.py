"""What holds for every method."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from method_cases import concept_set, short
from tiny_checkpoint import assert_untouched, state, tiny_settings

from unlearn.catalogue import METHODS
from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError, IncompatibleError
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler, draw
from unlearn.models.weights.parameters import matching

ERASING = [
    "uce",
    "uce_2023",
    "uce_moderate",
    "rece",
    "mace",
    "mace_released",
    "esd",
    "esd_u",
    "esd_x_strict",
    "concept_ablation",
    "concept_ablation_noise",
    "concept_ablation_nudity",
    "salun",
    "salun_released",
    "spm_static",
    "forget_me_not",
    "erasediff",
    "selective_amnesia",
    "selective_amnesia_nudity",
    "trce",
    "realera",
    "advunlearn",
    "advunlearn_fast",
    "duge",
    "doco",
    "doco_released",
    "rg",
    "rg_sgd",
    "rg_uniform",
]
GUARDING = [
    "negative_prompt",
    "sld",
    "sld_weak",
    "sld_weak_diffusers",
    "sld_strong",
    "sld_max",
    "safree",
    "safree_released",
    "spm",
]
BRANCHES = {"negative_prompt": 2, "sld": 3, "safree": 3, "safree_released": 2, "spm": 2}
EDITED = {
    "esd": ["cross_attention"],
    "esd_u": ["no_cross_attention", "!unet.*norm*"],
    "concept_ablation_nudity": ["unet.*attn1.*", "unet.*attn2.*"],
    "salun": ["denoiser"],
    "salun_released": ["denoiser"],
    "spm_static": ["unet.*attentions.*.weight", "!unet.*norm*"],
    "selective_amnesia": ["denoiser"],
    **{
        name: ["no_cross_attention", "!unet.time_embedding.*", "!unet.conv_*out.*"]
        for name in ("selective_amnesia_nudity", "erasediff")
    },
    "forget_me_not": [  # what the probabilities of the last cross-attention depend on
        "denoiser",
        "!unet.conv_*out.*",
        *(
            f"!unet.up_blocks.1.attentions.1.{after}.*"
            for after in ("proj_out", "*attn2.to_v", "*attn2.to_out", "*norm3", "*ff")
        ),
    ],
    "trce": ["cross_attention_kv", "unet.*attn1.*", "unet.*attn2.to_q.*"],
    "advunlearn": ["text_encoder", "!text_encoder.*embeddings*"],
    "advunlearn_fast": ["text_encoder", "!text_encoder.*embeddings*"],
    **{name: ["denoiser"] for name in ("rg", "rg_sgd", "rg_uniform")},
}


def test_every_method_is_tried_here():
    tried = {type(short(name)) for name in [*ERASING, *GUARDING, "none"]}
    assert tried == set(METHODS.values())


@pytest.mark.parametrize("name", ERASING)
def test_erasing_changes_the_documented_weights_and_leaves_the_model(name, tiny, context):
    before = state(tiny)
    erasure = short(name).erase(tiny, concept_set("church"), context)
    assert_untouched(tiny, before)
    assert erasure.weights.keys() == matching(tiny, EDITED.get(name, ["cross_attention_kv"])).keys()
    assert all(not torch.equal(weight, before[key]) for key, weight in erasure.weights.items())
    assert erasure.history
    with tiny.erased(erasure):
        after = state(tiny)
    frozen = before.keys() - erasure.weights.keys()
    assert all(torch.equal(after[key], before[key]) for key in frozen)


@pytest.mark.parametrize("name", GUARDING)
def test_guarding_changes_images_and_no_weight_and_costs_its_branches(name, tiny, context, tmp_path):
    own = short(name, world="pocket")
    before = state(tiny)
    erasure = own.erase(tiny, concept_set("church"), context)
    assert not erasure.weights
    settings = Sampler(scheduler="ddim", steps=9, guidance=5.0, resolution=32, batch_size=4)
    prompts, seeds = ["church", "a church beside a house", "a cat"], [0, 1, 2]

    def drawn(guard) -> torch.Tensor:
        with tiny.erased(erasure) as erased:
            return torch.cat(list(draw(erased, prompts, seeds, settings, guard)))

    counted = tiny.forwards
    images = drawn(erasure.guard)
    counted = tiny.forwards - counted
    assert_untouched(tiny, before)
    # A random network tells prompts apart by little, and the weakest guard does little about that.
    assert (images - drawn(None)).flatten(1).abs().amax(dim=1).min() > 1e-5
    branches = BRANCHES.get(name, BRANCHES["sld"])
    assert len(prompts) * settings.steps * 2 <= counted <= len(prompts) * settings.steps * branches
    assert torch.equal(drawn(erasure.guard), images)

    erasure.save(tmp_path)
    stored = Erasure.load(tmp_path)
    assert type(stored.guard) is type(erasure.guard)
    assert stored.history == erasure.history
    assert torch.equal(drawn(stored.guard), images)


@pytest.mark.parametrize("name", ["none", *ERASING])
def test_same_seed_same_weights(name, tiny, context, tmp_path):
    erasures = []
    for run in "ab":
        scratch = tmp_path / run
        scratch.mkdir()
        own = replace(context, seed=3, scratch=scratch)
        erasures.append(short(name).erase(tiny, concept_set("church"), own).weights)
    first, second = erasures
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ERASING)
def test_a_model_in_half_precision_is_erased_in_float32(name, tiny_folder, context):
    model = replace(tiny_settings(tiny_folder), dtype="bfloat16").load("cpu")
    before = state(model)
    erasure = short(name).erase(model, concept_set("church"), context)
    assert_untouched(model, before)
    assert model.half is None
    assert erasure.weights
    for key, weight in erasure.weights.items():
        assert weight.dtype == torch.float32
        assert torch.isfinite(weight).all()
        # Steps are not rounded away: some are finer than half precision can tell.
        assert not torch.equal(weight, weight.bfloat16().float()), key


@pytest.mark.parametrize("name", ERASING)
def test_two_concepts_at_once(name, tiny, context):
    both = short(name).erase(tiny, concept_set("church", "cat"), context)
    alone = short(name)
    shutil.rmtree(context.scratch)
    context.scratch.mkdir()
    one = alone.erase(tiny, concept_set("church"), context)
    assert any(not torch.equal(both.weights[key], one.weights[key]) for key in both.weights)


@pytest.mark.parametrize("name", ["none", *ERASING])
def test_going_on_from_an_earlier_erasure(name, tiny, context, tmp_path):
    original = state(tiny)
    church, cat = concept_set("church"), concept_set("cat", retain=["tench"])
    cat.earlier = church.erase

    def own(run: str):
        (tmp_path / run).mkdir()
        return replace(context, scratch=tmp_path / run)

    first = short(name).erase(tiny, church, own("first"))
    both = short(name).continued(tiny, cat, own("both"), first)
    assert_untouched(tiny, original)
    assert both.weights.keys() == first.weights.keys()
    alone = short(name).erase(tiny, cat, own("alone"))
    for key, weight in both.weights.items():
        assert not torch.equal(weight, first.weights[key])
        assert not torch.equal(weight, alone.weights[key])
    # Where the second step began is where the first has left off.
    step, leap = (
        sum(float((both.weights[key] - other[key]).square().sum()) for key in both.weights)
        for other in (first.weights, original)
    )
    assert step < leap or name == "none"


def test_those_that_act_while_sampling_say_that_they_cannot_go_on(tiny, context):
    continuing = {name: short(name).continues for name in ["none", *ERASING, *GUARDING]}
    assert continuing == {name: name not in GUARDING for name in continuing}
    guarded = short("sld").erase(tiny, concept_set("church"), context)
    with pytest.raises(IncompatibleError, match="acts while sampling"):
        short("uce").continued(tiny, concept_set("cat"), context, guarded)


@pytest.mark.parametrize("name", [*ERASING, "safree"])
def test_refuses_a_family_without_cross_attention(name, tiny, context, monkeypatch):
    monkeypatch.setattr(type(tiny), "features", frozenset({"epsilon"}))
    with pytest.raises(IncompatibleError, match="requires cross_attention"):
        short(name).erase(tiny, concept_set("church"), context)


WRONG = {
    "anchor: must be something that stays, got 'Church'": concept_set("church", anchor="Church"),
    "retain: must not hold what is erased, got 'church '": concept_set("church", retain=["dog", "church "]),
    "tokens": concept_set("church " * 80),
}


@pytest.mark.parametrize("name", [*ERASING, *GUARDING])
@pytest.mark.parametrize("message", WRONG)
def test_bad_concepts_are_refused(name, message, tiny, context):
    before = state(tiny)
    with pytest.raises(ConfigError, match=message):
        short(name).erase(tiny, WRONG[message], context)
    assert_untouched(tiny, before)


@pytest.mark.parametrize("name", ERASING)
def test_a_pattern_that_matches_nothing_is_refused(name, tiny, context):
    before = state(tiny)
    wrong = short(name)
    wrong.parameters = ["unet.*attn9.*"]
    with pytest.raises(ConfigError, match="no parameter of this model matches"):
        wrong.erase(tiny, concept_set("church"), context)
    assert_untouched(tiny, before)


@pytest.mark.parametrize("name", ERASING)
def test_an_exception_leaves_the_model(name, tiny, context):
    before = state(tiny)

    def interrupt(_values, _step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short(name).erase(tiny, concept_set("church"), replace(context, log=interrupt))
    assert_untouched(tiny, before)


def test_none_changes_nothing(tiny, context):
    erasure = short("none").erase(tiny, concept_set("church"), context)
    assert not erasure.weights
    assert erasure.guard is None


def test_phrases_of_one_concept_may_be_retained_by_another(tiny, context):
    church, cat = concept_set("church").erase["church"], concept_set("cat", retain=["church"]).erase["cat"]
    erasure = short("uce").erase(tiny, ConceptSet(erase={"church": church, "cat": cat}), context)
    assert erasure.weights
