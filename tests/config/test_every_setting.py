"""Every key of every file in ``conf/`` with another value: what the code is given differs, or it is idle."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.catalogue import TABLES
from unlearn.commands.check import ALONE, PLACES, every
from unlearn.config.compose import composed
from unlearn.config.idle import idle
from unlearn.config.resolve import resolve
from unlearn.config.schemas import RunConfig
from unlearn.errors import ConfigError

CHOICES = list(every((*ALONE, *PLACES)))

#: Settings that have to be as they are beside the others of their file, or are components themselves.
SINGLE = {
    ("rece", "start.technique"),
    ("trce_stage1", "steering"),
    *((name, "optimizer.weight_decay") for name in ("salun", "salun_nudity", "salun_released")),
    ("mma", "space.place"),
}


@pytest.mark.parametrize("overrides", CHOICES, ids=lambda words: words[0])
def test_every_file_resolves_and_every_key_in_it_changes_something(overrides):
    config = composed(overrides)
    run = resolve(config, here=False)
    without, where = idle(run), place(overrides[0])
    raw = OmegaConf.to_container(OmegaConf.select(config, where))
    dead = []
    for key, value in leaves(raw, where):
        if (overrides[0].rpartition("=")[2], key.removeprefix(f"{where}.")) in SINGLE:
            continue
        if key == "concept.sequence" and value is None:  # takes two concepts, and there is one
            continue
        if any(f"{key}.".startswith(f"{one}.") for one in without):
            continue
        before = given(config, key, run.model.world)
        if not any(given(config, key, run.model.world) != before for _ in others(config, key, value)):
            dead.append(key)
    assert not dead


def place(word: str) -> str:
    """Where in a run the file lies that is chosen by ``word``."""
    group, _, name = word.lstrip("+").partition("=")
    group = group.partition("@")[0]
    if group == "experiment":
        return "eval"
    return f"{PLACES[group]}.{name}" if group in PLACES else group


def leaves(value, key):
    """The settings below a key that hold a value of their own, and what is written there."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if key != "eval" or name in ("prompts", "failures"):  # the others have files of their own
                yield from leaves(inner, f"{key}.{name}")
    elif not re.fullmatch(r"\$\{(method|model)\.[\w.]+\}", str(value)):  # is set where it refers to
        yield key, value


def given(config, key, world):
    """What the stages of a run are given of the component that a key belongs to, in plain terms."""
    root = key.split(".")
    try:
        if root[0] == "concept":
            choice = OmegaConf.to_object(config.concept)
            return repr((choice.name, choice.steps(world)))
        count = 3 if root[0] == "eval" and root[1] in ("attacks", "metrics", "detectors", "resurgence") else 1
        return repr(OmegaConf.to_object(OmegaConf.select(config, ".".join(root[:count]))))
    except (ValueError, ConfigError) as error:
        return Refused(error)


class Refused:
    """A value that is not allowed: equal to everything, so that it counts for no change."""

    def __init__(self, error):
        self.known = re.findall(r"Known: ([^.]+)\.", str(error))

    def __eq__(self, other):
        return True

    __hash__ = None


def others(config, key, written):
    """Sets a key to one value after another that it may take; afterwards it is as it was."""
    value = OmegaConf.select(config, key)
    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    try:
        for other in chain(candidates(value), named(config, key)):
            with suppress(OmegaConfBaseException, ValueError):
                OmegaConf.update(config, key, other, force_add=isinstance(other, dict))
                yield other
    finally:
        OmegaConf.update(config, key, written)


def candidates(value):
    """Values of the same kind, some of which are within bounds."""
    if value is None:
        return [1, 0.5, "house", ["house"], [0.5, 0.5]]
    if isinstance(value, dict):
        return [{**value, "object": ["house"]}]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2, value + 1, value - 1, 8 * value, value / 2, value * 0.9, value + 0.05, 0.01, 1, 0]
    if isinstance(value, list):
        longer = [*value, value[-1] * 2] if value and isinstance(value[-1], int) else [*value, "a house {}"]
        moved = [[one * by if isinstance(one, float) else one for one in value] for by in (0.97, 1.01)]
        return [value[:-1], longer, [*value, "house"], *moved, value[1:]]
    return ["a house {}", "house"]


def named(config, key):
    """What the component says that there is to choose from."""
    written = OmegaConf.to_container(config)
    for name in key.split("."):
        written = written[name]
    several = isinstance(written, list)
    try:
        OmegaConf.update(config, key, ["nothing"] if several else "nothing")
    except OmegaConfBaseException:
        return
    refused = given(config, key, config.model.world)
    OmegaConf.update(config, key, written)
    known = refused.known[0].split(", ") if isinstance(refused, Refused) and refused.known else []
    yield from ([name] for name in known) if several else known


@cache
def reads():
    """The names of all attributes that the package reads outside of ``__post_init__``."""
    found = set()

    class Reader(ast.NodeVisitor):
        def visit_FunctionDef(self, node):
            if node.name != "__post_init__":
                self.generic_visit(node)

        def visit_Attribute(self, node):
            if isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            self.generic_visit(node)

    for path in (Path(__file__).parents[2] / "unlearn").rglob("*.py"):
        Reader().visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def classes(cls):
    """A dataclass and those that its fields hold."""
    found = {cls}
    for hint in get_type_hints(cls).values():
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and is_dataclass(inner) and inner not in found:
                found |= classes(inner)
    return found


def test_every_field_of_a_component_is_read_outside_of_its_own_checks():
    components = {RunConfig, *(cls for table in TABLES.values() for cls in table.values())}
    unread = {
        f"{cls.__name__}.{one.name}"
        for component in components
        for cls in classes(component)
        for one in fields(cls)
        if one.name not in reads()
    }
    assert not unread
