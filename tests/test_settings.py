"""Settings take effect, or are refused with the one that does."""

import pytest

from unlearn.config import composed, resolve, signature
from unlearn.errors import ConfigError


def configured(*words):
    return resolve(composed(words), here=False)


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
    assert signature(composed([*words, said])) != signature(composed(words))


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
