"""Every field says its own range, and it is the same for Python and the command line."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields, is_dataclass
from io import StringIO
from typing import get_args, get_type_hints

import pytest

import unlearn
from unlearn.catalogue import TABLES
from unlearn.commands import show
from unlearn.commands.check import ALONE, PLACES, names
from unlearn.commands.files import text
from unlearn.config.schemas import RunConfig
from unlearn.config.sources import sources
from unlearn.errors import ConfigError
from unlearn.methods.guards.sld import SLDGuard
from unlearn.settings import Settings, ranges, setting


def below(cls, seen):
    """A dataclass and all that its fields are made of."""
    if cls not in seen:
        seen.add(cls)
        hints = [*get_type_hints(cls).values()]
        while hints:
            hint = hints.pop()
            hints += get_args(hint)
            if is_dataclass(hint):
                below(hint, seen)
    return seen


CLASSES = set()
for root in (RunConfig, *(cls for table in TABLES.values() for cls in table.values())):
    below(root, CLASSES)
CLASSES = sorted(CLASSES, key=lambda cls: cls.__qualname__)
DECLARED = [(cls, key) for cls in CLASSES for key in ranges(cls)]

#: Numbers that may be anything: none so far, since even those without bounds say that they are numbers.
ANYTHING = set()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__qualname__)
def test_every_number_says_its_range(cls):
    numbers = {each.name for each in fields(cls) if re.search(r"\b(int|float)\b", str(each.type))}
    assert {(cls.__name__, key) for key in numbers - ranges(cls).keys()} <= ANYTHING
    assert not ranges(cls) or issubclass(cls, Settings)
    assert all(ranges(cls)[key].words() for key in numbers)


def outside(allowed):
    """Values just outside of each bound, as they would stand in a list or a mapping of the field."""
    if allowed.choices:
        single = ["no such thing"]
    elif allowed.contains or allowed.filled:
        single = [" "]
    elif allowed.interval is None:
        single = []
    else:
        single = numbers_outside(allowed.interval)
    for value in single:
        if allowed.holders[-1:] == ("list",):
            value = [value] * (allowed.count or 1)
        yield {next(iter(allowed.keys), "one"): value} if allowed.holders[:1] == ("dict",) else value
    if allowed.keys:
        yield {"no such key": single[0]}
    if allowed.shape != "any" or allowed.count:
        yield (
            {}
            if allowed.holders == ("dict",)
            else []
            if allowed.holders == ("list",)
            else {next(iter(allowed.keys)): []}
        )


def numbers_outside(interval):
    step = 1 if interval.whole else None
    values = [bound for bound in (interval.above, interval.below) if bound is not None]
    if interval.least is not None:
        values.append(interval.least - 1 if step else math.nextafter(interval.least, -math.inf))
    if interval.most is not None:
        values.append(interval.most + 1 if step else math.nextafter(interval.most, math.inf))
    if interval.multiple:
        values.append(interval.least + 1)
    return [*values, "three", True, math.nan, *([] if interval.infinite else [math.inf])]


def inside(interval):
    """The outermost numbers that are allowed."""
    if interval.least is not None:
        yield interval.least
    elif interval.above is not None:
        yield interval.above + 1 if interval.whole else math.nextafter(interval.above, math.inf)
    if interval.most is not None:
        yield interval.most
    elif interval.below is not None:
        yield interval.below - 1 if interval.whole else math.nextafter(interval.below, -math.inf)


@pytest.mark.parametrize(("cls", "key"), DECLARED, ids=[f"{cls.__qualname__}.{key}" for cls, key in DECLARED])
def test_what_is_just_outside_is_refused_by_the_class(cls, key):
    allowed = ranges(cls)[key]
    tried = list(outside(allowed))
    assert tried
    for value in tried:
        given = {each.name: None for each in fields(cls)} | {key: value}
        with pytest.raises(ValueError, match=rf"(?m)^{key}\b") as caught:
            cls(**given)
        (line,) = (line for line in str(caught.value).splitlines() if re.match(rf"{key}[:.]", line))
        innermost = value
        while isinstance(innermost, dict) and innermost and "no such key" not in innermost:
            (innermost,) = innermost.values()
        if "Unknown" in line:
            assert "no such" in line
            assert all(name in line for name in allowed.choices or allowed.keys)
        else:
            assert line.endswith(f"got {innermost!r}")
            assert "must be" in line or "needs at least" in line or "none may be empty" in line


@pytest.mark.parametrize(("cls", "key"), DECLARED, ids=[f"{cls.__qualname__}.{key}" for cls, key in DECLARED])
def test_what_is_just_inside_passes(cls, key):
    allowed = ranges(cls)[key]
    if allowed.interval is not None and not allowed.holders:
        assert [p for value in inside(allowed.interval) for p in allowed.problems(key, value)] == []
    if allowed.choices and not allowed.holders:
        assert [p for value in allowed.choices for p in allowed.problems(key, value)] == []
    assert bool(allowed.problems(key, None)) != allowed.optional or not allowed.words()


CLI = {
    "method": (["method=esd", "method.steps=0"], "method.steps: must be at least 1, got 0"),
    "part of a method": (
        ["method=esd", "method.sampler.scheduler=eulr"],
        "method.sampler.scheduler: Unknown scheduler 'eulr'. Did you mean 'euler'?",
    ),
    "attack": (
        ["+attack@eval.attacks.p4d=p4d", "eval.attacks.p4d.search.lr=0"],
        "eval.attacks.p4d.search.lr: must be a number above 0, got 0.0",
    ),
    "metric": (
        ["eval.metrics.erased.known_from=101"],
        "eval.metrics.erased.known_from: must be from 0 to 100, got 101.0",
    ),
    "detector": (
        ["eval.detectors.pocket_judge.threshold=1"],
        "eval.detectors.pocket_judge.threshold: must be between 0 and 1, got 1.0",
    ),
    "model": (
        ["model.sampler.resolution=60"],
        "model.sampler.resolution: must be a multiple of 8, at least 8, got 60",
    ),
    "resurgence": (
        ["+resurgence@eval.resurgence.x=start_images", "eval.resurgence.x.strengths=[0.5,0.8]"],
        "eval.resurgence.x.strengths: needs at least one, falling, got [0.5, 0.8]",
    ),
    "concept": (
        ["concept=church", "concept.worlds.pocket.erase.church.phrases=[]"],
        "concept.worlds.pocket.erase.church.phrases: needs at least one, and none may be empty, got []",
    ),
    "seed": (["seeds.erase=-1"], "seeds.erase: must be from 0 to below 2**63, got -1"),
    "optional": (["method=esd", "method.refresh=0"], "method.refresh: must be at least 1, or null, got 0"),
}


@pytest.mark.parametrize(("words", "message"), CLI.values(), ids=CLI.keys())
def test_the_command_line_says_the_same_with_the_full_key(words, message):
    with pytest.raises(ConfigError) as caught:
        unlearn.configure(*words)
    assert f"\n  {message}" in str(caught.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        unlearn.configure("method=esd", "method.steps=0", "method.sampler.steps=0")
    said = str(caught.value).splitlines()[1:]
    assert said == ["  method.sampler.steps: must be at least 1, got 0"]  # what holds it comes after
    with pytest.raises(ConfigError) as caught:
        unlearn.configure("method=esd", "method.steps=0", "method.batch_size=-1")
    assert str(caught.value).splitlines()[1:] == [
        "  method.steps: must be at least 1, got 0",
        "  method.batch_size: must be at least 1, got -1",
    ]


@dataclass(kw_only=True)
class Small(Settings):
    steps: int = setting(least=1)
    rates: list[float] = setting(default_factory=lambda: [1.0, 2.0], above=0, shape="rising")
    rule: str = setting(default="adam", choices=("adam", "sgd"), unit="rules")
    pair: list[float] | None = setting(default=None, least=0, most=1, count=2)
    names: dict[str, list[str]] = setting(default_factory=dict, keys=("a", "b"), shape="some", filled=True)


def test_a_declaration_leaves_a_dataclass_as_it_is():
    assert asdict(Small(steps=2)) == {
        "steps": 2,
        "rates": [1.0, 2.0],
        "rule": "adam",
        "pair": None,
        "names": {},
    }
    assert repr(Small(steps=2)).startswith("Small(steps=2, rates=[1.0, 2.0], rule='adam'")
    with pytest.raises(TypeError, match="steps"):
        Small()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("steps", "at least 1"),
        ("rates", "at least one, rising, each a number above 0"),
        ("rule", "one of 'adam', 'sgd'"),
        ("pair", "two numbers from 0 to 1, or null"),
        ("names", "for any of 'a', 'b': at least one, and none may be empty"),
    ],
)
def test_a_range_can_be_said(key, words):
    assert ranges(Small)[key].words() == words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"steps": 1.5}, "steps: must be at least 1, got 1.5"),
        ({"steps": None}, "steps: must be at least 1, got None"),
        ({"rates": [2.0, 1.0]}, "rates: needs at least one, rising, got [2.0, 1.0]"),
        ({"rates": [1.0, 1.0]}, "rates: needs at least one, rising, got [1.0, 1.0]"),
        ({"rates": 1.0}, "rates: must be a list, got 1.0"),
        ({"rule": "sgdd"}, "rule: Unknown rule 'sgdd'. Did you mean 'sgd'? Known: adam, sgd."),
        ({"pair": [0.5]}, "pair: must be two numbers from 0 to 1, got [0.5]"),
        ({"names": {"a": []}}, "names.a: needs at least one, and none may be empty, got []"),
        ({"names": {"c": ["x"]}}, "names: Unknown names 'c'. Known: a, b."),
        ({"names": {"a": "x"}}, "names.a: must be a list, got 'x'"),
        (
            {"steps": 0, "rates": []},
            "steps: must be at least 1, got 0\nrates: needs at least one, rising, got []",
        ),
    ],
)
def test_what_is_said_of_a_wrong_value(given, message):
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        Small(**{"steps": 1} | given)


def test_a_number_of_any_size_is_compared():
    assert ranges(RunConfig)["seed"].problems("seed", 2**63 - 1) == []
    assert ranges(RunConfig)["seed"].problems("seed", 10**400)
    assert ranges(RunConfig)["seed"].problems("seed", 2**63)


def test_a_guard_is_checked_like_its_method():
    with pytest.raises(ValueError, match=r"momentum_scale: must be from 0 to 1, got 2.0"):
        SLDGuard(warmup=1, scale=2.0, threshold=0.1, momentum_scale=2.0, momentum_decay=0.5, text="a church")


SHOWN = {
    "range and source": "range: a number from 0 up; source: paper, section 5: eta (method/esd.yaml)\nneg",
    "unit": "  # range: a multiple of 8, at least 8; unit: pixels; source: method/esd.yaml\n  resolution",
    "of its own file": "attn2 (method/esd_u.yaml)\nparameters:",
    "default": "# range: at least 1, or null; unit: optimizer steps; source: default\nrefresh",
    "set by the user": "# range: at least 1; source: you\nsteps: 3",
}


@pytest.fixture(scope="module")
def shown():
    with redirect_stdout(StringIO()) as out:
        show.main(Namespace(choice="method=esd_u", overrides=["method.steps=3"]))
    return out.getvalue()


@pytest.mark.parametrize("part", SHOWN.values(), ids=SHOWN.keys())
def test_show_says_range_unit_and_source(shown, part):
    assert part in shown


@pytest.mark.parametrize("group", [*ALONE, *PLACES])
def test_every_value_of_conf_has_a_source(group):
    for name in names(group):
        for key, said in sources(group, name, text).items():
            path = re.search(r"([\w.]+/[\w./]+\.yaml)\)?$", said)
            assert path, (name, key, said)
            assert key.rpartition(".")[2] in text(path[1]), (name, key)


def test_sources_follow_defaults_and_what_takes_their_place():
    files = {
        "method/a.yaml": "# Head.\ndefaults: [/schema/method/x@_here_, b, /t@words: c, _self_]\n"
        "steps: 3  # mine\npart:\n  # above\n  one: 1\nrest: {x: 1}  # beside\nlist:  # of two\n- 1\n- 2\n",
        "method/b.yaml": "defaults: [/schema/method/x@_here_, _self_]\nsteps: 4  # theirs\nkept: 1  # kept\n"
        "part:\n  two: 2  # two\nrest: {z: 1}\n",
        "t/c.yaml": "phrase: x  # said\n",
    }
    assert sources("method", "a", files.__getitem__) == {
        "steps": "mine (method/a.yaml)",
        "kept": "kept (method/b.yaml)",
        "part.one": "above (method/a.yaml)",
        "part.two": "two (method/b.yaml)",
        "rest": "beside (method/a.yaml)",
        "rest.x": "method/a.yaml",
        "rest.z": "method/b.yaml",
        "list": "of two (method/a.yaml)",
        "words.phrase": "said (t/c.yaml)",
    }
