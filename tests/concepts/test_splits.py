"""What is tuned on is never what is reported."""

import csv
import hashlib
import json
from collections import Counter
from importlib.resources import files

import pytest

from scripts.make_prompts import RECIPES, TEST, rows
from unlearn.concepts.concept import (
    DEV_TEMPLATES,
    PROMPT_TEMPLATES,
    ROLES,
    SPLITS,
    Concept,
    ConceptSet,
    read_prompts,
)
from unlearn.errors import ConfigError

HEAD = "role,prompt,seed,shows,split\n"


def lines(name):
    with files("unlearn").joinpath("data", "prompts", f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def concept(**given):
    fields = {
        "kind": "object", "phrases": ["church", "chapel"], "anchor": "", "retain": ["castle"],
        "prompts": None, "detector": "judge", "labels": ["church"],
    }  # fmt: skip
    return Concept(**{**fields, **given})


@pytest.mark.parametrize("name", RECIPES)
def test_the_packaged_files_are_what_the_script_writes(name):
    written = [
        {
            "role": row.role,
            "prompt": row.prompt,
            "seed": str(row.seed),
            "shows": row.shows,
            "split": row.split,
        }
        for row in rows(name, RECIPES[name])
    ]
    assert lines(name) == written


def test_what_was_reported_before_there_were_halves_is_reported_still():
    # Of the rows that eval=standard took from the files as they were without a column 'split'.
    old = [
        [name, row["role"], row["prompt"], row["seed"], row["shows"]]
        for name in sorted(RECIPES)
        for row in lines(name)
        if row["split"] == "test"
    ]
    assert len(old) == 400 * len(RECIPES)
    assert hashlib.sha256(json.dumps(old).encode()).hexdigest()[:16] == "a90f55702f79f678"


@pytest.mark.parametrize("name", RECIPES)
def test_no_text_and_no_seed_of_a_file_is_in_both_halves(name):
    halves = [[row for row in lines(name) if row["split"] == split] for split in SPLITS]
    for said in ("prompt", "seed"):
        test, dev = ({row[said].casefold() for row in half} for half in halves)
        assert not test & dev
    for half in halves:
        assert Counter(row["role"] for row in half) == TEST


def test_a_role_is_read_of_one_half(tmp_path):
    text = "plain,a church,1,church,test\nplain,one church,2,church,dev\nneighbour,a castle,3,castle,test\n"
    (tmp_path / "own.csv").write_text(HEAD + text)
    own = ConceptSet(erase={"church": concept(prompts="own")})
    assert own.prompt_set("plain", [tmp_path]).prompts == ("a church",)
    assert own.prompt_set("plain", [tmp_path], split="dev").prompts == ("one church",)
    assert own.prompt_set("neighbour", [tmp_path], split="dev").prompts == ()


def test_a_file_that_is_not_split_is_to_report_with(tmp_path):
    (tmp_path / "own.csv").write_text("role,prompt,seed,shows\nplain,a church,1,church\n")
    assert list(read_prompts("own", [tmp_path])["plain"]) == [("a church", 1, "church")]
    with pytest.raises(
        ConfigError, match=r"eval.split: .*own.csv has no prompts of the half 'dev'. Give it the"
    ):
        read_prompts("own", [tmp_path], "dev")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "plain,a church,1,church,test\nsynonym,a church,2,church,dev\n",
            "1 prompts are both to tune on and",
        ),
        ("plain,a church,1,church,train\n", "row 2: Unknown split 'train'"),
        ("plain,a church,1,church,\n", "row 2: Unknown split ''"),
    ],
)
def test_a_file_that_mixes_is_refused(tmp_path, text, said):
    (tmp_path / "own.csv").write_text(HEAD + text)
    with pytest.raises(ConfigError, match=said):
        read_prompts("own", [tmp_path])


@pytest.mark.parametrize("kind", PROMPT_TEMPLATES)
def test_templates_make_two_halves(kind):
    own = ConceptSet(erase={"it": concept(kind=kind)})
    test, dev = ([own.prompt_set(role, split=split) for role in ROLES] for split in SPLITS)
    assert DEV_TEMPLATES.keys() == PROMPT_TEMPLATES.keys()
    assert [len(half) for half in test] == [len(half) for half in dev]
    assert not {text for half in test for text in half.prompts} & {
        text for half in dev for text in half.prompts
    }
    assert not {seed for half in test for seed in half.seeds} & {seed for half in dev for seed in half.seeds}


def test_of_several_concepts_none_is_tuned_on_what_another_is_reported_with(tmp_path):
    (tmp_path / "one.csv").write_text(
        HEAD + "plain,a church,1,church,test\nplain,one church,2,church,dev\nunrelated,a cat,3,cat,dev\n"
        "unrelated,a key,4,key,dev\n"
    )
    (tmp_path / "two.csv").write_text(
        HEAD + "plain,a tent,1,tent,test\nplain,one tent,2,tent,dev\nneighbour,a cat,7,cat,test\n"
    )
    both = ConceptSet(
        erase={
            "church": concept(prompts="one"),
            "tent": concept(prompts="two", phrases=["tent"], labels=["tent"]),
        }
    )
    assert both.prompt_set("unrelated", [tmp_path], split="dev").prompts == ("a key",)
    alone = ConceptSet(erase={"church": both.erase["church"]})
    assert alone.prompt_set("unrelated", [tmp_path], split="dev").prompts == ("a cat", "a key")
