"""The curves of a run: what is drawn, shared, resumed and counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from tiny_checkpoint import assert_untouched, state

from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import Detector
from unlearn.methods.training import loop as training
from unlearn.methods.training.loop import Optimizer
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler
from unlearn.pipeline import curves, drawing
from unlearn.pipeline.drawing import Drawing, generate
from unlearn.pipeline.erasing import Erased
from unlearn.pipeline.judging import Judging
from unlearn.pipeline.resurging import resurge
from unlearn.resurgence.quantisation import Quantisation
from unlearn.resurgence.relearning import Relearning
from unlearn.resurgence.sampling import OtherGuidance, StartImages
from unlearn.store.artifacts import Store

SAMPLER = Sampler(scheduler="ddim", steps=2, guidance=3.0, resolution=32, batch_size=2)
PLAIN = PromptSet(
    "plain",
    ("a church", "the church", "a church, a sketch", "one church", "a cat"),
    (5, 6, 7, 8, 9),
    ("",) * 5,
    ("church",) * 5,
)


@dataclass
class Red(Detector):
    """Sees a church where the first channel is brighter than the second."""

    labels: ClassVar = ("church",)
    threshold: float = 0.0

    def scores(self, images):
        return (images[:, :1] - images[:, 1:2]).mean(dim=(2, 3)) + 0.5

    def decide(self, readout, label):
        return readout[:, self.labels.index(label)] > self.threshold


CHURCH = Concept(
    kind="object", phrases=["church"], anchor="house", retain=["dog"], prompts=None, detector="red",
    labels=["church"], templates=["{a}", "a photo of {a}"],
)  # fmt: skip


def relearn(**changes):
    settings = {
        "prompts": 4, "data": "concept", "images": 2, "parameters": ["cross_attention"], "rank": None,
        "steps": [1, 2, 3], "batch_size": 2, "optimizer": Optimizer(lr=1e-2), "sampler": SAMPLER,
    }  # fmt: skip
    return Relearning(**{**settings, **changes})


CONCEPTS = ConceptSet(erase={"church": CHURCH})
JUDGING = Judging(CONCEPTS, {"red": Red(threshold=0.5)})


def moved(model, scale=0.2):
    random = torch.Generator().manual_seed(1)
    weights = {
        name: weight + scale * torch.randn(weight.shape, generator=random)
        for name, weight in model.named_parameters()
        if "attn2" in name
    }
    return Erased(Erasure(weights=weights), None, {"source": {"model": "tiny"}, "method": scale}, {})


def drawn(kinds, store, model, erased, images=None, seed=0):
    drawing = Drawing(lambda: model, SAMPLER, store)
    return resurge(kinds, PLAIN, CONCEPTS, seed, erased, drawing, images or {})


def measured(kinds, store, model, erased, images=None):
    """The curves by name."""
    found = drawn(kinds, store, model, erased, images)
    return {entry["name"]: entry for entry in curves.judge(found, JUDGING, store)}


def test_a_curve_starts_with_the_erased_models_own_images(tiny, tmp_path):
    kinds = {"relearn": relearn(), "guidance": OtherGuidance(prompts=4, scales=[1.0])}
    store, erased = Store(tmp_path), moved(tiny)
    needed = [ImageRequest("plain", model) for model in ("erased", "original")]
    images = generate(needed, {"plain": PLAIN}, erased, Drawing(lambda: tiny, SAMPLER, store))
    before = state(tiny)
    made = len(store.made)
    found = measured(kinds, store, tiny, erased, images)
    assert_untouched(tiny, before)
    # One artifact a curve and model, and what the detectors say; the plain images are there.
    assert [key.partition("/")[0] for key in store.made[made:]] == ["resurgence"] * 3 + ["curves"] * 2
    for name, model in (("relearn", "erased"), ("guidance", "erased")):
        shown = torch.cat(list(images[ImageRequest("plain", model)].batches(9)))[:4]
        rate = 100 * Red(threshold=0.5).decide(Red().scores(shown), "church").double().mean().item()
        assert found[name]["points"][0]["value"] == pytest.approx(rate)
    assert [point["at"] for point in found["relearn"]["points"]] == [0, 1, 2, 3]
    assert [point["at"] for point in found["guidance"]["points"]] == [3.0, 1.0]
    assert all(point["n"] == 4 and len(point["interval"]) == 2 for point in found["relearn"]["points"])
    # The original is not trained on; it is drawn from in every other way.
    assert [point["original"] is None for point in found["relearn"]["points"]] == [False, True, True, True]
    assert [point["original"] is None for point in found["guidance"]["points"]] == [False, False]
    assert found["relearn"]["seconds"] > 0

    again = Store(tmp_path)
    assert measured(kinds, again, None, erased, images) == found
    assert again.made == []


def test_without_plain_images_they_are_drawn(tiny, tmp_path):
    found = measured({"x": OtherGuidance(prompts=2, scales=[1.0])}, Store(tmp_path), tiny, moved(tiny))
    assert [point["n"] for point in found["x"]["points"]] == [2, 2]
    assert found["x"]["points"][0]["original"] is not None


def test_a_tiny_learning_rate_gives_a_flat_curve(tiny, tmp_path):
    found = measured({"x": relearn(optimizer=Optimizer(lr=1e-30))}, Store(tmp_path), tiny, moved(tiny))
    assert len({point["value"] for point in found["x"]["points"]}) == 1


def test_methods_share_what_the_original_draws(tiny, tmp_path):
    kinds = {
        "guidance": OtherGuidance(prompts=2, scales=[1.0]),
        "start": StartImages(prompts=2, strengths=[0.5]),
        "quantised": Quantisation(prompts=2, parameters=["denoiser"], formats=["int4"]),
    }
    store = Store(tmp_path)
    first = drawn(kinds, store, tiny, moved(tiny))
    other = drawn(kinds, store, tiny, moved(tiny, 0.3))
    none = Erased(Erasure(), None, {"source": {"model": "tiny"}, "method": "none"}, {})
    nothing = drawn(kinds, store, tiny, none)
    for name in kinds:
        assert first[name].folders["original"] == other[name].folders["original"]
        assert first[name].folders["erased"] != other[name].folders["erased"]
        assert nothing[name].folders["erased"] == first[name].folders["original"]


def test_what_was_done_before_a_kill_is_kept(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    kinds, erased = {"x": relearn(), "y": OtherGuidance(prompts=4, scales=[1.0, 2.0])}, moved(tiny)
    undisturbed = measured(kinds, Store(tmp_path / "a"), tiny, erased)
    real, left = drawing.draw, [0]

    def dying(*arguments, **named):
        for images in real(*arguments, **named):
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            yield images

    monkeypatch.setattr(drawing, "draw", dying)
    spent, deaths = [], 0
    for chance in range(3, 40, 4):
        left[0], before = chance, tiny.forwards
        try:
            found = measured(kinds, Store(tmp_path / "b"), tiny, erased)
            break
        except KeyboardInterrupt:
            deaths += 1
            spent.append(tiny.forwards - before)
    assert deaths >= 2

    def lasting(entries):
        return {name: {**entry, "seconds": 0} for name, entry in entries.items()}

    assert lasting(found) == lasting(undisturbed)
    assert not list((tmp_path / "b" / "scratch").rglob("*.png"))


def test_the_seed_is_part_of_a_curve(tiny, tmp_path):
    store, erased = Store(tmp_path), moved(tiny)
    folders = {
        drawn({"x": relearn(steps=[1])}, store, tiny, erased, seed=seed)["x"].folders["erased"]
        for seed in (0, 1)
    }
    assert len(folders) == 2


def point(at, value, original=None):
    whole = None if original is None else {"value": original, "interval": None}
    return {"at": at, "label": str(at), "value": value, "interval": None, "n": 4, "original": whole}


@pytest.mark.parametrize(
    ("values", "original", "expected"),
    [
        ([0, 10, 45, 90], 90, 2),
        ([0, 10, 44, 44], 90, None),
        ([50, 10, 0, 0], 90, 0),
        ([0, None, 50, 90], 90, 2),
        ([0, 0, 0, 0], 0, None),
    ],
)
def test_half_is_the_first_place_that_reaches_it(values, original, expected):
    points = [point(at, value, original if not at else None) for at, value in enumerate(values)]
    assert curves.half(points) == expected


def test_images_that_cannot_be_judged_are_in_no_rate():
    shown = torch.tensor([1.0, 0.0, float("nan"), 1.0], dtype=torch.double)
    rate, n = curves.rate_of(shown, ("a", "b", "c", "d"))
    assert (rate["value"], n) == (pytest.approx(200 / 3), 3)
    assert rate["interval"][0] < rate["value"] < rate["interval"][1]
    assert curves.rate_of(shown[2:3], ("c",)) == (None, 0)
