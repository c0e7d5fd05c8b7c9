"""Our warnings and those of libraries: told apart, kept from the terminal, counted."""

import ast
import logging
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from unlearn.errors import UnlearnWarning
from unlearn.system.heard import library, library_warnings, listening, own_warnings

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]

#: Runs a line as if it stood in this package, with a library beside it whose warnings are counted to it.
FRAME = """
import warnings
from unlearn.errors import UnlearnWarning

THEIRS = compile('''
import warnings
def old(category=FutureWarning): warnings.warn("will be gone", category, stacklevel=2)
''', "/site-packages/theirs/__init__.py", "exec")

def test_line():
    there = {"__name__": "theirs"}
    exec(THEIRS, there)
    here = {"__name__": "unlearn.models.families.text", "old": there["old"], "warnings": warnings}
    here["UnlearnWarning"] = UnlearnWarning
    exec(compile(LINE, "unlearn/models/families/text.py", "exec"), here)
"""

GREEN = {
    "deprecation": "old()",
    "deprecation of another kind": "old(DeprecationWarning)",
    "plain": "old(UserWarning)",
}
RED = {
    "own": "warnings.warn('doubtful', UnlearnWarning)",
    "arithmetic": "import numpy; numpy.float32(1) / numpy.float32(0)",
    "open file": "open(__import__('os').devnull); __import__('gc').collect()",
    "python's own": "warnings.warn('utcnow() is due for removal in Python 3.20', DeprecationWarning)",
    "never awaited": "async def f(): pass\nf()",
}


@pytest.fixture
def tried(pytester):
    """Runs one line in a test of its own, with this project's settings."""

    def run(line):
        settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
        filters = "\n".join(f"    {each}" for each in settings["filterwarnings"])
        options = " ".join(each for each in settings["addopts"] if "warnings" in each)
        pytester.makeini(f"[pytest]\naddopts = {options}\nfilterwarnings =\n{filters}\n")
        pytester.makepyfile(library_warnings=(ROOT / "tests" / "shared" / "library_warnings.py").read_text())
        pytester.makeconftest("from library_warnings import *")
        pytester.makepyfile(test_line=f"LINE = {line!r}\n{FRAME}")
        return pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")

    return run


@pytest.mark.parametrize("line", GREEN.values(), ids=GREEN.keys())
def test_a_librarys_warning_that_is_counted_to_our_line_is_one_line_at_the_end(tried, line):
    done = tried(line)
    done.assert_outcomes(passed=1, warnings=1)
    assert [text for text in done.outlines if "warnings of libraries: " in text] == [
        "1 warnings of libraries: text 1"
    ]


@pytest.mark.parametrize("line", RED.values(), ids=RED.keys())
def test_ours_fails_the_test(tried, line):
    assert tried(line).parseoutcomes().get("failed") == 1


@pytest.mark.parametrize("path", sorted((ROOT / "unlearn").rglob("*.py")), ids=lambda path: path.stem)
def test_every_warning_of_the_package_says_that_it_is_one(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        compile(tree, path, "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
            assert ast.unparse(node.args[1]) == "UnlearnWarning"


def noisy(name="theirs"):
    """A library that warns, and logs to the terminal by a handler of its own, as transformers does."""
    path = logging.__file__
    code = """
import logging, sys, warnings
logger = logging.getLogger("theirs.models")
top = logging.getLogger("theirs")
top.addHandler(logging.StreamHandler(sys.stderr))
top.propagate = False
def old(): warnings.warn("will be gone", DeprecationWarning, stacklevel=2)
def say(): logger.warning("was not %s", "initialised", 3)
"""
    there = {"__name__": name}
    exec(compile(code, path, "exec"), there)
    return there["old"], there["say"]


def test_what_libraries_say_is_counted_and_not_shown(capsys, caplog):
    with listening():
        old, say = noisy()
        for _ in range(2):
            old()
        say()
        logging.getLogger("elsewhere").warning("%s and %s", 1, 2)
        logging.getLogger("elsewhere").info("nothing to speak of")
        found = library_warnings()
    said = capsys.readouterr()
    assert said.err + said.out == ""
    assert [tuple(each.values()) for each in found] == [
        ("elsewhere", "WARNING", "1 and 2", 1),
        ("python", "DeprecationWarning", "will be gone", 2),
        ("theirs", "WARNING", "was not %s", 1),
    ]
    assert "will be gone" in caplog.text
    assert library_warnings() == []
    logging.getLogger("theirs.models").warning("again")  # as it was
    assert capsys.readouterr().err == "again\n"


def test_a_block_within_another_counts_nothing_twice():
    with listening():
        logging.getLogger("elsewhere").warning("before")
        with listening():
            logging.getLogger("elsewhere").warning("within")
            assert [each["count"] for each in library_warnings()] == [1, 1]
        assert [each["text"] for each in library_warnings()] == ["before"]


def test_ours_are_shown_and_still_fail_a_test():
    with listening():
        with pytest.raises(UnlearnWarning):
            warnings.warn("doubtful", UnlearnWarning, stacklevel=1)
        with pytest.warns(UnlearnWarning, match="doubtful"):
            warnings.warn("doubtful", UnlearnWarning, stacklevel=1)


def test_ours_are_collected_and_others_go_on_even_if_the_block_fails():
    def block():
        with own_warnings() as said:
            warnings.simplefilter("always")
            warnings.warn("doubtful", UnlearnWarning, stacklevel=1)
            warnings.warn("will be gone", FutureWarning, stacklevel=1)
            assert said == ["doubtful"]
            raise RuntimeError("killed")

    with (
        pytest.warns(FutureWarning, match="will be gone") as heard,
        pytest.raises(RuntimeError, match="killed"),
    ):
        block()
    assert len(heard) == 1


def test_files_belong_to_their_library():
    assert library(pytest.__file__) == "pytest"
    assert library(logging.__file__) == "python"
    assert library(sys.modules["unlearn.system.heard"].__file__) == "unlearn"
