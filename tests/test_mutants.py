"""The driver of mutants, on a tree with one small module."""

import time

import pytest

from scripts.mutants.copy import Copy
from scripts.mutants.equivalent import Equivalent, equivalents, reason
from scripts.mutants.finding import mutants
from scripts.mutants.plan import OURS, Plan
from scripts.mutants.said import said, wilson
from scripts.mutants.trial import _shared, drawn, every

TOY = b'''"""Counts."""

LIMIT = 3


def share(hits: int, n: int = 1) -> float:
    """How many of ``n``."""
    if hits > n:
        raise ValueError("more than there are")
    return hits / n
'''
GOOD = """
import pytest
from toy import LIMIT, share


def test_share():
    assert LIMIT == 3
    assert (share(1, 4), share(2, 2), share(1)) == (0.25, 1.0, 1.0)
    with pytest.raises(ValueError, match="more"):
        share(3, 2)
"""
EMPTY = """
from toy import share


def test_share():
    share(1, 4)
"""


@pytest.fixture
def toy(tmp_path):
    """A plan for the toy, with the tests that it is given."""

    def planned(tests, source=TOY):
        root = tmp_path / "toy"
        root.mkdir(exist_ok=True)
        (root / "toy.py").write_bytes(source)
        (root / "test_toy.py").write_text(tests)
        (root / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        return Plan(root, ("toy.py",), ("test_*.py",), ("toy.py",), ("pytest",))

    return planned


def judged(plan, tmp_path, count=100):
    chosen = drawn(plan, [], count, 0)
    found = every(plan, chosen, tmp_path / "kept", tmp_path / "copies", 1, 60)
    assert list(found) == chosen
    return found


def test_finds_mistakes_in_the_code_and_none_in_the_words():
    changes = {one.change(TOY) for one in mutants("toy.py", TOY)}
    assert changes == {
        ("LIMIT = 3", "LIMIT = 4"),
        ("def share(hits: int, n: int = 1) -> float:", "def share(hits: int, n: int = 2) -> float:"),
        ("if hits > n:", "if hits >= n:"),
        ("if hits > n:", "if hits < n:"),
        ("if hits > n:", "if not (hits > n):"),
        ("if hits > n:", "if False and (hits > n):"),
        ('raise ValueError("more than there are")', "pass"),
        ("return hits / n", "return hits * n"),
    }


@pytest.mark.parametrize(
    ("code", "mistakes"),
    [
        ("a = not b", {"a = b"}),
        ("a = b and c", {"a = b or c", "a = c", "a = b"}),
        ("a = b is not None", {"a = b is None"}),
        ("a = b if c else d", {"a = d if c else b"}),
        ("a = f(b, c)", {"a = f(c, b)", "a = f(b)"}),
        ("a = f(b=c)", {"a = f(b=None)"}),
        ("a = b[index]", {"a = b[index - 1]"}),
        ("a = b[:n]", {"a = b[:n - 1]"}),
        (
            "a = {'k': b, 'l': c}",
            {"a = {'XXk': b, 'l': c}", "a = {'k': b, 'XXl': c}", "a = {'l': c}", "a = {'k': b}"},
        ),
        (
            "a = [b for b in c if b]",
            {f"a = [b for b in c if {t}]" for t in ("True", "not (b)", "False and (b)")},
        ),
        ("a = b + c", {"a = b", "a = c"}),
        ("a = b + 1", {"a = b - 1", "a = b + 2"}),
        ("a[b] = c", {"pass"}),
        ("a += c", {"pass"}),
        ("f(b)", {"pass"}),
        ("a = max(b)", {"a = min(b)"}),
        ("a = max(b, c)", {"a = min(b, c)", "a = max(b)"}),
        ("a = f'{b}:c'", {"a = f'XX{b}:c'"}),
        ("a = 'é', 'b'", {"a = 'XXé', 'b'", "a = 'é', 'XXb'"}),
        ("a = 'what is said', f'{b} is said'", set()),
    ],
)
def test_knows_these_mistakes(code, mistakes):
    source = code.encode()
    assert {one.change(source)[1] for one in mutants("a.py", source)} == mistakes


def test_a_good_test_kills_all(toy, tmp_path):
    plan = toy(GOOD)
    found = judged(plan, tmp_path)
    assert {verdict.what for verdict in found.values()} == {"killed"}
    assert {verdict.by for verdict in found.values()} == {"test_toy.py::test_share"}
    assert (plan.root / "toy.py").read_bytes() == TOY
    text, share = said(found, {"toy.py": TOY}, [])
    assert share == 100
    assert "8 of 8 killed: 100.0 % (95 % interval 67.6 to 100.0)" in text


def test_a_test_that_looks_at_nothing_kills_nothing_but_what_breaks_it(toy, tmp_path):
    found = judged(toy(EMPTY), tmp_path)
    lives = {one.change(TOY)[1]: verdict.what for one, verdict in found.items() if verdict.what != "killed"}
    assert lives == {
        "LIMIT = 4": "survived",
        "def share(hits: int, n: int = 2) -> float:": "survived",
        "if hits >= n:": "survived",
        "if False and (hits > n):": "survived",
        "pass": "unreached",
        "return hits * n": "survived",
    }
    known = [Equivalent("toy.py", "LIMIT = 3", "LIMIT = 4", "Nobody reads it.")]
    text, share = said(found, {"toy.py": TOY}, known)
    assert share == pytest.approx(100 * 2 / 7)
    assert "-LIMIT = 3\n+LIMIT = 4" in text
    assert "equivalent: Nobody reads it." in text


def test_goes_on_where_it_was_stopped_and_tries_what_lives_again(toy, tmp_path, monkeypatch):
    first = judged(toy(EMPTY), tmp_path)
    monkeypatch.setattr("scripts.mutants.copy.Copy.run", None)
    assert judged(toy(EMPTY), tmp_path) == first
    monkeypatch.undo()
    assert {verdict.what for verdict in judged(toy(GOOD), tmp_path).values()} == {"killed"}


def test_a_mistake_that_never_ends_is_stopped(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.mutants.trial.LEAST", 3)
    plan = toy(
        "import toy\n\n\ndef test_it():\n    assert toy.left(2) == 0\n",
        b"def left(n):\n    while n:\n        n -= 1\n    return n\n",
    )
    found = judged(plan, tmp_path)
    assert {one.kind: verdict.what for one, verdict in found.items()}["left out"] == "timeout"


def test_an_interrupt_begins_nothing_more():
    begun = []

    def work(copy, thing):  # noqa: ARG001
        begun.append(thing)
        if thing == 2:
            raise KeyboardInterrupt
        time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        _shared(["copy"], work, list(range(50)), "things")
    assert begun[:3] == [0, 1, 2]
    assert len(begun) < 6


def test_tests_that_fail_by_themselves_are_said(toy, tmp_path):
    with pytest.raises(SystemExit, match=r"test_toy.py: must pass before anything is mutated"):
        judged(toy(GOOD.replace("0.25", "0.5")), tmp_path)


def test_an_equivalent_mutant_is_known_by_its_lines_which_must_be_there(tmp_path):
    (tmp_path / "toy.py").write_bytes(TOY)
    entries = tmp_path / "equivalent.yaml"
    entries.write_text("- {file: toy.py, was: LIMIT = 3, becomes: LIMIT = 4, why: Nobody reads it.}\n")
    known = equivalents(entries, tmp_path)
    found = [reason(one, TOY, known) for one in mutants("toy.py", TOY)]
    assert sorted(found) == [""] * 7 + ["Nobody reads it."]
    (tmp_path / "toy.py").write_text("LIMIT = 5\n")
    with pytest.raises(SystemExit, match=r"toy.py has no line 'LIMIT = 3' any more"):
        equivalents(entries, tmp_path)


def test_our_own_plan_names_files_that_are_there():
    assert {"unlearn/pipeline/scoring.py", "unlearn/metrics/metric.py"} <= set(OURS.files([]))
    assert "tests/pipeline/test_scoring.py" in OURS.test_files()
    with pytest.raises(SystemExit, match=r"--only: nowhere.py is not among the files"):
        OURS.files(["nowhere.py"])
    assert drawn(OURS, [], 50, 3) == drawn(OURS, [], 50, 3) != drawn(OURS, [], 50, 4)
    assert len({one.file for one in drawn(OURS, [], 200, 0)}) >= 12


def test_the_interval_is_wilson_s():
    assert wilson(8, 8) == pytest.approx((0.6756, 1.0), abs=1e-4)
    assert wilson(180, 200) == pytest.approx((0.8506, 0.9343), abs=1e-4)


def test_the_user_s_files_stay_as_they_are(toy, tmp_path):
    plan = toy(GOOD)
    copy = Copy(plan, tmp_path / "copy")
    (one,) = [one for one in mutants("toy.py", TOY) if one.kind == "/ becomes *"]
    with copy.mistaken(one):
        assert (copy.root / "toy.py").read_bytes() == one.applied(TOY) != TOY
        assert (plan.root / "toy.py").read_bytes() == TOY
    assert (copy.root / "toy.py").read_bytes() == TOY
    copy.close()
