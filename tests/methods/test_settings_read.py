"""What a method is set to reaches what it does: the fields it reads, the seed and the concepts it heeds."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from method_cases import concept_set, short

from unlearn.catalogue import METHODS

#: What keeps a part of the method from being left out, here on random predictions.
WHOLE = {
    "rg": ["threshold=null"],
    "mace": ["kinds.object.refine_prior=1e-4", "kinds.object.fuse_prior=1e-4"],
}


def method(name):
    return short(name, *WHOLE.get(name, ()))


def settings(component, path=""):
    """Every component that a method is made of, by its path."""
    yield path, component
    for part in fields(component):
        value = getattr(component, part.name)
        entries = value.items() if isinstance(value, dict) else [(None, value)]
        for name, inner in entries:
            if is_dataclass(inner):
                yield from settings(inner, f"{path}{part.name}." + (f"{name}." if name else ""))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_setting_is_read_or_idle(name, tiny, context, monkeypatch):
    chosen, concepts = method(name), concept_set("church")
    parts = dict(settings(chosen))
    paths, read = {id(part): path for path, part in parts.items()}, set()
    for cls in {type(part) for part in parts.values()}:
        names = {part.name for part in fields(cls)}

        def noted(self, key, names=names):
            if key in names and id(self) in paths:
                read.add(paths[id(self)] + key)
            return object.__getattribute__(self, key)

        monkeypatch.setattr(cls, "__getattribute__", noted)
    idle = chosen.idle(concepts)
    read.clear()
    chosen.erase(tiny, concepts, context)
    monkeypatch.undo()
    unread = {path + part.name for path, one in parts.items() for part in fields(one)} - read
    unread -= {"start.technique"}  # of RECE, which takes a single one
    left = {key for key in unread if not any(f"{key}.".startswith(f"{each}.") for each in idle)}
    assert not left
    assert not idle.keys() & {"parameters", "steps", "images", "optimizer", "sampler"}


def outcome(name, model, context, folder, concepts, seed=0):
    scratch = context.scratch / folder
    scratch.mkdir()
    erasure = method(name).erase(model, concepts, replace(context, seed=seed, scratch=scratch))
    state = {} if erasure.guard is None else erasure.guard.state()
    return repr(erasure.guard), {**erasure.weights, **state}


def same(one, other):
    return one[0] == other[0] and all(torch.equal(one[1][key], other[1][key]) for key in one[1])


@pytest.mark.parametrize("name", sorted(METHODS))
def test_what_is_said_to_be_read_of_a_concept_is_what_matters(name, tiny, context):
    """Both ways: what a method heeds and does not claim would be refused, and the reverse let pass."""
    concepts, reads = concept_set("church"), method(name).reads
    base = outcome(name, tiny, context, "base", concepts)
    for number, change in enumerate(
        (
            {"anchor": "tree"},
            {"retain": ["bicycle", "train", "boat"]},
            {"templates": ["{}", "a drawing of {a}"]},
        )
    ):
        own = replace(concepts, erase={"church": replace(concepts.erase["church"], **change)})
        other = outcome(name, tiny, context, f"{number}", own)
        (field,) = change
        assert same(base, other) != (field in reads), field
    assert same(base, outcome(name, tiny, context, "seed", concepts, seed=1)) != method(name).random
