"""Concepts at once, and one after another."""

import pytest

from unlearn.concepts.choice import ConceptChoice
from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.concepts.sentences import says
from unlearn.errors import ConfigError

TEMPLATES = ["{a}", "a drawing of {a}", "a neon sign of {a}"]


def concept(phrase, anchor="house", retain=("castle",), templates=TEMPLATES, **changes):
    values = {
        "kind": "object",
        "phrases": [phrase],
        "anchor": anchor,
        "retain": list(retain),
        "prompts": None,
        "detector": "judge",
        "labels": [phrase],
        "templates": templates,
    }
    return Concept(**(values | changes))


def choice(*sequence, **concepts):
    known = {
        "church": concept("church", retain=["castle", "truck", "the Neon Sign", "fish"]),
        "neon": concept(
            "neon sign",
            "drawing",
            ["drawing", "ink print"],
            ["{a} of a fish", "{a} of a Church"],
            kind="style",
        ),
        "truck": concept("truck", "car", ["church", "bus"]),
        **concepts,
    }
    return ConceptChoice(name="line", worlds={"pocket": ConceptSet(erase=known)}, sequence=list(sequence))


def steps(*sequence, **concepts):
    return choice(*sequence, **concepts).steps("pocket")


def test_a_step_erases_one_concept_and_knows_the_earlier_ones_in_their_order():
    found = steps("truck", "church", "neon")
    assert [list(step.erase) for step in found] == [["truck"], ["church"], ["neon"]]
    assert [list(step.earlier) for step in found] == [[], ["truck"], ["truck", "church"]]
    whole = choice("truck", "church", "neon").world("pocket")
    assert list(whole.erase) == ["truck", "church", "neon"]
    assert not whole.earlier


def test_what_was_erased_is_no_longer_retained():
    church = steps("church", "truck")[0].erase["church"]
    assert church.retain == ["castle", "truck", "the Neon Sign", "fish"]
    assert steps("truck", "church")[1].erase["church"].retain == ["castle", "the Neon Sign", "fish"]
    assert steps("neon", "church")[1].erase["church"].retain == ["castle", "truck", "fish"]
    assert not any("truck" in text for text in steps("truck", "church")[1].retained)


def test_no_sentence_of_any_concept_says_another_that_is_gone():
    for last in steps("church", "neon", "truck"), steps("neon", "truck", "church"):
        step = last[-1]
        assert {**step.erase, **step.earlier}["church"].templates == ["{a}", "a drawing of {a}"]
        assert {**step.erase, **step.earlier}["neon"].templates == ["{a} of a fish"]
    first, second, _ = steps("church", "neon", "truck")
    assert first.erase["church"].templates == TEMPLATES
    assert second.erase["neon"].templates == ["{a} of a fish"]
    assert second.earlier["church"].templates == ["{a}", "a drawing of {a}"]


def test_without_a_sequence_all_are_erased_in_one_step():
    at_once = choice("church", "truck")
    at_once.sequence = None
    (step,) = at_once.steps("pocket")
    assert list(step.erase) == ["church", "neon", "truck"]
    assert step == at_once.world("pocket")


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ((), r"sequence: needs at least two concepts, got \[\]"),
        (("church",), r"sequence: needs at least two concepts, got \['church'\]"),
        (("church", "neon", "church"), "sequence: a concept can be erased once only, got 'church' again"),
    ],
)
def test_sequences_that_are_none(sequence, message):
    with pytest.raises(ValueError, match=message):
        choice(*sequence)


@pytest.mark.parametrize(
    ("sequence", "other", "message"),
    [
        (("church", "chruch"), {}, "concept.sequence: Unknown concept 'chruch'. Did you mean 'church'"),
        (
            ("church", "chapel"),
            {"chapel": concept("chapel", labels=["temple", "church"])},
            "'church' and 'chapel' must not share labels, got 'church' in both",
        ),
        (
            ("church", "chapel"),
            {"chapel": concept("chapel", phrases=["chapel", "church"], labels=["chapel"])},
            "'church' and 'chapel' must not share phrases, got 'church' in both",
        ),
        (
            ("church", "villa"),
            {"villa": concept("House")},
            "the anchor of 'church' must be something that stays, got 'house', and 'villa' erases 'House'",
        ),
        (
            ("church", "chapel"),
            {"chapel": concept("chapel", anchor="a church hall")},
            "the anchor of 'chapel' .* got 'a church hall', and 'church' erases 'church'",
        ),
        (
            ("church", "glow"),
            {"glow": concept("neon sign", "fish", templates=["{} of a church"], labels=["glow"])},
            "every template of 'glow' says a concept that is erased by its step",
        ),
    ],
)
def test_concepts_that_get_into_each_others_way(sequence, other, message):
    with pytest.raises(ConfigError, match=f"concept.sequence: .*{message}|{message}"):
        steps(*sequence, **other)


def test_says_whole_words_in_any_case():
    assert says("a Neon Sign, of a fish", "neon sign")
    assert says("drawn by noto", "by noto")
    assert not says("a rainbow", "bow")
    assert not says("a sign of neon", "neon sign")


def test_prompts_to_be_kept_that_say_another_concept_are_left_out(tmp_path):
    rows = ["neighbour,a neon sign of a castle,1,castle", "neighbour,a castle,2,castle", "plain,x,3,church"]
    (tmp_path / "own.csv").write_text("\n".join(["role,prompt,seed,shows", *rows, ""]))
    church = concept("church", prompts="own")
    neon = concept("neon sign", "drawing", [], kind="style")
    alone = ConceptSet(erase={"church": church}).prompt_set("neighbour", [tmp_path])
    both = ConceptSet(erase={"church": church, "neon": neon}).prompt_set("neighbour", [tmp_path])
    assert len(alone) == 2
    assert both.prompts == ("a castle",)


def test_limits_of_all_and_of_each():
    names = ("a", "b", "a", "b", "a", "c")
    prompts = PromptSet("plain", tuple("uvwxyz"), tuple(range(6)), tuple("UVWXYZ"), names)
    assert prompts.limited(None) is prompts
    assert prompts.limited(3).prompts == ("u", "v", "w")
    each = prompts.limited(1, each=True)
    assert (each.prompts, each.seeds, each.shows) == (("u", "v", "z"), (0, 1, 5), ("U", "V", "Z"))
    assert each.concepts == ("a", "b", "c")
    assert prompts.limited(2, each=True).prompts == ("u", "v", "w", "x", "z")
