"""What a killed attack leaves behind."""

from __future__ import annotations

import warnings

import pytest

from unlearn.attacks.findings import Finding, gathered, kept
from unlearn.concepts.concept import PromptSet
from unlearn.errors import ArtifactError, UnlearnWarning

FOUND = [Finding("é a church", 3, 40, True, (0.5, 0.25)), Finding("b", 1, 20, False, None)]


def test_what_was_found_is_found_again(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return FOUND

    assert [kept(tmp_path, "batch0", make) for _ in range(2)] == [FOUND, FOUND]
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["batch0.json"]
    assert kept(tmp_path, "batch1", lambda: FOUND[:1]) == FOUND[:1]
    assert [kept(None, "batch0", make) for _ in range(2)] == [FOUND, FOUND]
    assert len(calls) == 3


def test_what_was_warned_of_is_said_again(tmp_path):
    def make():
        warnings.warn("no gradient", UnlearnWarning, stacklevel=1)
        warnings.warn("a library will change", FutureWarning, stacklevel=1)
        return FOUND

    for said in ({UnlearnWarning, FutureWarning}, {UnlearnWarning}):
        with pytest.warns(Warning, match="no gradient|a library") as heard:
            assert kept(tmp_path, "batch0", make) == FOUND
        assert {each.category for each in heard} == said


def test_damage_is_said(tmp_path):
    (tmp_path / "batch0.json").write_text("[[1]]")
    with pytest.raises(ArtifactError, match=r"batch0\.json: cannot be read .* Remove it to attack again\."):
        kept(tmp_path, "batch0", lambda: FOUND)


def test_findings_become_prompts_with_the_seeds_of_the_plain_ones():
    plain = PromptSet("attack:x", ("a church", "church"), (5, 6), ("",) * 2, ("red",) * 2)
    found = gathered(FOUND, plain)
    assert found.prompts.prompts == ("é a church", "b")
    assert found.prompts.seeds == (5, 6)
    assert found.plain == plain.prompts
    assert (found.queries, found.forwards, found.found) == ((3, 1), (40, 20), (True, False))
    assert found.objective == ((0.5, 0.25), None)
    assert len(gathered([], plain.limited(0)).prompts) == 0
    assert gathered([each._replace(objective=None) for each in FOUND], plain).objective == ()
