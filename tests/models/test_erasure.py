"""Erasures on disk: what is saved comes back, and what is damaged is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from unlearn.errors import ArtifactError
from unlearn.models.erasure import Erasure
from unlearn.models.guards import GUARDS, Guard


@dataclass(kw_only=True)
class Colour(Guard):
    text: str
    curves: list[list[float]]
    limit: int | None
    span: Tensor

    def __post_init__(self):
        if self.span.ndim != 2:
            raise ValueError("span: must be a matrix")

    def state(self):
        return {"span": self.span}


@pytest.fixture
def guarded(monkeypatch) -> Erasure:
    monkeypatch.setitem(GUARDS, "colour", Colour)
    span = torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T  # not contiguous
    guard = Colour(text="röd, red", curves=[[5.5, 3.5]], limit=None, span=span)
    return Erasure(weights={"unet.x": torch.ones(2)}, guard=guard, history=[{"rank": 2.0}])


def test_what_is_saved_comes_back(guarded, tmp_path):
    guarded.save(tmp_path)
    found = Erasure.load(tmp_path)
    assert torch.equal(found.weights["unet.x"], torch.ones(2))
    assert found.history == guarded.history
    assert type(found.guard) is Colour
    assert (found.guard.text, found.guard.curves, found.guard.limit) == ("röd, red", [[5.5, 3.5]], None)
    assert found.guard.span.dtype == torch.float64
    assert torch.equal(found.guard.span, guarded.guard.span)


def test_no_guard_comes_back_as_none(tmp_path):
    Erasure(weights={"unet.x": torch.ones(2)}).save(tmp_path)
    assert Erasure.load(tmp_path).guard is None


@pytest.mark.parametrize("file", ["guard.json", "guard.safetensors", "weights.safetensors", "history.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_damaged_file_is_refused(guarded, tmp_path, file, damage):
    guarded.save(tmp_path)
    path = tmp_path / file
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -7 if damage == "cut" else 0])
    with pytest.raises(ArtifactError, match="does not hold a whole erasure"):
        Erasure.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guard": "os.system"}, "Unknown guard 'os.system'. .*Known: .*colour"),
        ({"guard": "Colour"}, "Unknown guard 'Colour'. Did you mean 'colour'"),
        ({"settings": {"text": "red"}}, "curves"),
        ({"settings": {"text": "red", "curves": [], "limit": 1, "more": 2}}, "more"),
        ({"settings": {"text": "red", "curves": [], "limit": 1, "span": 2}}, "span"),
        ({"settings": [1]}, "whole erasure"),
    ],
)
def test_only_known_guards_are_made_and_only_from_their_fields(guarded, tmp_path, change, message):
    guarded.save(tmp_path)
    described = json.loads((tmp_path / "guard.json").read_text())
    (tmp_path / "guard.json").write_text(json.dumps(described | change))
    with pytest.raises(ArtifactError, match=message):
        Erasure.load(tmp_path)


def test_what_the_guard_itself_refuses_is_damage(guarded, tmp_path):
    from safetensors.torch import save_file

    guarded.save(tmp_path)
    save_file({"span": torch.ones(3)}, tmp_path / "guard.safetensors")
    with pytest.raises(ArtifactError, match="span: must be a matrix"):
        Erasure.load(tmp_path)


def test_a_guard_that_could_not_be_loaded_is_not_saved(tmp_path):
    class Stranger(Guard):
        pass

    with pytest.raises(TypeError, match="Stranger cannot be stored, since it has no name"):
        Erasure(guard=Stranger()).save(tmp_path)
