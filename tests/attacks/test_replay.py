"""Prompts that were found elsewhere: what is read, what is refused, and how many are counted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from unlearn.attacks.attack import Target
from unlearn.attacks.replay import Replay
from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.config.compose import composed
from unlearn.config.resolve import resolve
from unlearn.errors import ConfigError
from unlearn.pipeline.attacking import search, tried
from unlearn.seeding import generator
from unlearn.store.artifacts import Store

PLAIN = PromptSet(
    "attack:x", ("a", "b", "c", "d"), (1, 2, 3, 4), ("",) * 4, ("church", "cat", "church", "church")
)


def concepts() -> ConceptSet:
    one = Concept(
        kind="object", phrases=["church"], anchor="", retain=[], prompts=None, detector="x", labels=["x"]
    )
    return ConceptSet(erase={"church": one, "cat": one})


def replay(tmp_path, text: str, prompts: int = 100) -> Replay:
    path = tmp_path / "found.csv"
    path.write_text(text, encoding="utf-8")
    return Replay(prompts=prompts, file=str(path))


def run(attack: Replay, plain: PromptSet = PLAIN):
    return attack.attack(SimpleNamespace(concepts=concepts()), attack.chosen(plain), generator(0))


def test_each_prompt_stands_for_the_next_plain_one(tmp_path):
    found = run(replay(tmp_path, 'x,prompt\n1,"one, two"\n2,three\n'))
    assert found.prompts.prompts == ("one, two", "three")
    assert found.plain == ("a", "b")
    assert found.prompts.seeds == (1, 2)
    assert found.prompts.concepts == ("church", "cat")
    assert found.queries == found.forwards == (0, 0)


def test_its_own_seeds_are_taken_where_it_has_some(tmp_path):
    assert run(replay(tmp_path, "prompt,seed\none,77\ntwo,\n")).prompts.seeds == (77, 2)


def test_prompts_go_to_the_concept_that_they_are_for(tmp_path):
    attack = replay(tmp_path, "prompt,concept\none,church\ntwo,church\nthree,cat\nfour,dog\nfive,\n")
    found = run(attack)
    assert found.prompts.prompts == ("one", "three", "two", "five")
    # A plain prompt without a row of its concept ends it, so that the images stay those of the first ones.
    short = replay(tmp_path, "prompt,concept\none,church\ntwo,church\n")
    with pytest.warns(UserWarning, match="1 of 2 prompts are replayed"):
        assert run(short).prompts.prompts == ("one",)


def test_what_is_left_out_is_said_unless_it_was_asked_for(tmp_path):
    text = "prompt\n" + "".join(f"p{i}\n" for i in range(9))
    with pytest.warns(UserWarning, match=r"found.csv: 4 of 9 prompts are replayed.*eval.prompts.plain"):
        assert len(run(replay(tmp_path, text)).prompts) == 4
    assert len(run(replay(tmp_path, text, prompts=3)).prompts) == 3


def test_a_changed_file_is_read_again(tmp_path):
    attack, store = replay(tmp_path, "prompt,seed\none,9\n"), Store(tmp_path / "artifacts")

    def found():
        target = Target(None, None, concepts(), {}, None)
        return search(tried("replay", attack, PLAIN, 0), lambda: target, {}, store)

    first, folder = found()
    assert first.prompts.name == "attack:replay"
    assert first.prompts.seeds == (9,)
    assert found() == (first, folder)
    replay(tmp_path, "prompt\ntwo\n")
    assert found()[0].prompts.prompts == ("two",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have a column 'prompt', got none"),
        ("text,seed\na,1\n", "must have a column 'prompt', got text, seed"),
        ("prompt\n", "has no prompts"),
        ("prompt,seed\na,1\n ,2\n", "row 3: the prompt is empty"),
        ("prompt,seed\na,-1\n", "row 2: seed must be a whole number"),
        ("prompt,concept\na,chruch\n", "Unknown concept 'chruch'. Did you mean 'church'"),
        ('prompt\n"a\n', "cannot be read as CSV"),
        ("prompt,concept\na,cat\n", "column concept: has no row for 'church', which the first plain prompt"),
    ],
)
def test_a_wrong_file_is_said_in_one_line(tmp_path, text, said):
    (problem,) = replay(tmp_path, text).check(concepts())
    assert problem.startswith("file: ")
    assert said in problem


def test_nothing_is_loaded_for_a_file_that_is_missing():
    words = ["method=none", "+attack@eval.attacks.replay=replay", "eval.attacks.replay.file=nowhere.csv"]
    with pytest.raises(ConfigError, match=r"eval.attacks.replay.file: there is no file 'nowhere.csv'\."):
        resolve(composed(words))
    with pytest.raises(ConfigError, match=r"eval.attacks.replay.file: needs a value"):
        resolve(composed(words[:2]))


def test_a_good_file_is_no_problem(tmp_path):
    assert replay(tmp_path, "prompt,concept\na,church\nb,other\n").check(concepts()) == []


def test_refuses_settings_that_mean_nothing():
    with pytest.raises(ValueError, match="prompts: must be at least 1"):
        Replay(prompts=0, file="x.csv")
