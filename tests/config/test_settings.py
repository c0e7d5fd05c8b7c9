"""Settings take effect, or are refused with the one that does."""

from copy import deepcopy
from functools import cache

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from unlearn.config.compose import composed
from unlearn.config.identity import signature
from unlearn.config.resolve import resolve
from unlearn.errors import ConfigError


@cache
def chosen(*words):
    return composed(words)


def described(words):
    """As :func:`composed`, which takes long: choices are composed once, values set on what comes of them."""
    keys = [word.partition("=")[0] for word in words]
    values = [
        word for word, key in zip(words, keys, strict=True) if "." in key.partition("@")[0] and "~" not in key
    ]
    config = deepcopy(chosen(*(word for word in words if word not in values)))
    for override in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(config, override.get_key_element(), override.value())
    return config


def configured(*words):
    return resolve(described(words), here=False)


def refusal(*words):
    with pytest.raises(ConfigError) as caught:
        configured(*words)
    return str(caught.value)


@pytest.mark.parametrize("model", ["pocket", "sd1.4"])
@pytest.mark.parametrize("name", ["church", "nudity", "custom"])
def test_what_is_said_of_a_single_concept_takes_the_place_of_its_wording(name, model):
    words = [f"concept={name}", f"model={model}", "method=uce", "concept.name=balloon"]
    original = configured(*words)
    changed = configured(*words, "concept.anchor=car", "concept.retain=[dog]", "concept.kind=character")
    (before,), (after,) = original.concepts.erase.values(), changed.concepts.erase.values()
    assert (after.anchor, after.retain, after.kind) == ("car", ["dog"], "character")
    assert (after.phrases, after.templates, after.labels) == (before.phrases, before.templates, before.labels)
    assert changed.steps == [changed.concepts]
    (none,) = configured(*words, "concept.retain=[]", "concept.anchor=''").concepts.erase.values()
    assert (none.retain, none.anchor) == ([], "")


@pytest.mark.parametrize("said", ["concept.anchor=car", "concept.retain=[]", "concept.kind=style"])
def test_it_makes_another_run(said):
    words = ["concept=church", "method=uce"]
    assert signature(described([*words, said])) != signature(described(words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["concept.anchor=church"], "concept.anchor: must be something that stays, got 'church'"),
        (["concept.retain=[castle,Church]"], "concept.retain: must not hold what is erased, got 'Church'"),
        (["concept.retain=['']"], "concept.retain: none may be empty, got ['']"),
        (["concept.kind=stile"], "concept.kind: Unknown kind of concept 'stile'. Did you mean 'style'?"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_key(words, message):
    said = refusal("concept=church", "method=uce", *words)
    assert f"\n  {message}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("said", ["anchor=car", "retain=[]", "kind=style"])
def test_several_concepts_have_each_their_own(said):
    key = said.partition("=")[0]
    deep = f"concept.worlds.pocket.erase.church.{key}"
    assert f"\n  concept.{key}: is for a single concept, got " in refusal(
        "concept=sequence", f"concept.{said}"
    )
    assert f"Set it for each, as in {deep}." in refusal("concept=sequence", f"concept.{said}")
    assert f"erase.cassette_player.{key}." in refusal(
        "concept=sequence", "concept.sequence=null", f"concept.{said}"
    )
    assert configured("concept=sequence", "method=uce", f"{deep.removesuffix(key)}{said}")


IDLE = {
    "another mode": (
        ["method=erasediff", "method.eta=0.5"],
        "method.eta: has no effect here, got 0.5. It counts with weight=null.",
    ),
    "another kind": (
        ["method=rece", "concept=church", "method.kinds.nudity.mu=0.5"],
        "method.kinds.nudity.mu: has no effect here, got 0.5. It counts for concepts of the kind 'nudity'.",
    ),
    "a kind that refers to it, and another": (
        ["method=mace", "concept=church", "method.kinds.nudity.lr=0.5"],
        "It counts for",
    ),
    "an edit that is only a start": (
        ["method=rece", "method.start.parameters=[denoiser]"],
        "'parameters' says what is edited.",
    ),
    "nothing retained": (
        ["method=uce", "concept=church", "concept.retain=[]", "method.preserve_scale=2"],
        "method.preserve_scale: has no effect here, got 2.0. It counts where something is retained.",
    ),
    "no anchor": (
        ["method=esd", "concept=church", "concept.anchor=house"],
        "concept.anchor: has no effect here, got 'house'.",
    ),
    "a guide": (["method=uce_moderate", "concept.anchor=man"], "concept.anchor: has no effect here"),
    "what is given for it": (
        [
            "method=uce",
            "concept=church",
            "concept.anchor=bus",
            "concept.worlds.pocket.erase.church.anchor=car",
        ],
        "erase.church.anchor: has no effect here, got 'car'. concept.anchor takes its place.",
    ),
    "another world": (
        ["concept=church", "concept.worlds.sd.erase.church.anchor=car"],
        "The world of this model is 'pocket'.",
    ),
    "no step": (
        ["concept=sequence", "method=uce", "concept.worlds.pocket.erase.tench.anchor=cat"],
        "concept.sequence",
    ),
    "no randomness": (
        ["method=uce", "seeds.erase=3"],
        "seeds.erase: has no effect here, got 3. The method draws nothing",
    ),
    "no attack": (
        ["~eval.attacks.random_tokens", "seeds.attack=3"],
        "seeds.attack: has no effect here, got 3.",
    ),
    "no such images": (
        ["eval=quick", "~eval.metrics.erased_synonym", "eval.prompts.synonym=3"],
        "eval.prompts.synonym: has no",
    ),
    "no such prompts": (
        ["concept=custom", "concept.name=fox", "eval.prompts.implicit=3"],
        "The concept has no prompts of the role 'implicit'.",
    ),
    "an idle network": (
        ["eval.detectors.nudenet.threshold=0.3"],
        "eval.detectors.nudenet.threshold: has no effect here, got 0.3.",
    ),
    "no decision": (["eval.detectors.pocket_clip.threshold=0.3"], "It counts where this detector decides"),
    "no looks": (
        ["+attack@eval.attacks.mma=mma", "eval.attacks.mma.budget=400"],
        "It counts with looks above 0.",
    ),
    "both": (["eval.metrics.asr.resisted=true"], "It counts with the name of an attack."),
    "no hub": (["model.revision=main"], "It counts for a model.source on the hub."),
}


@pytest.mark.parametrize(("words", "message"), IDLE.values(), ids=IDLE.keys())
def test_a_setting_without_effect_is_refused(words, message):
    with pytest.raises(ConfigError) as caught:
        resolve(described(words), here=False, said=words)
    assert str(caught.value).startswith("These settings would change nothing:\n  ")
    assert str(caught.value).count("\n") == 1
    assert message in str(caught.value)


EFFECTIVE = {
    "its mode": ["method=erasediff", "method.weight=null", "method.eta=0.5"],
    "what refers to it": ["method=mace", "concept=violence", "method.kinds.nudity.lr=0.5"],
    "an attack that reads it": [
        "method=esd",
        "concept=church",
        "concept.anchor=bus",
        "+attack@eval.attacks.cce=cce",
    ],
    "prompts that are made of it": [
        "method=esd",
        "concept=custom",
        "concept.name=fox",
        "concept.retain=[cat]",
    ],
    "a seed of all": ["method=uce", "seed=3"],
    "what changes no number": [
        "eval.detectors.imagenet.device=cpu",
        "model.sampler.batch_size=3",
        "outputs=there",
    ],
    "what is taken out": ["~eval.attacks.random_tokens"],
}


@pytest.mark.parametrize("words", EFFECTIVE.values(), ids=EFFECTIVE.keys())
def test_a_setting_with_effect_passes(words):
    resolve(described(words), here=False, said=words)
