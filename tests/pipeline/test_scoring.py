"""Scoring: every metric, from images on disk."""

import pytest
import torch
from noise_world import PROMPTS, Model, generate, noise

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import Detector
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.needs import expanded, requests
from unlearn.metrics.robustness import AttackSuccessRate
from unlearn.pipeline import drawing, scoring
from unlearn.store.artifacts import Store


@pytest.fixture(autouse=True)
def _noise(monkeypatch):
    monkeypatch.setattr(drawing, "draw", noise)


def test_requests_are_the_union_of_needs():
    metrics = {"a": DetectionRate(role="plain", known_from=50), "asr": AttackSuccessRate()}
    every = expanded(metrics, ["x", "y"])
    assert list(every) == ["a", "asr_x", "asr_x_resisted", "asr_y", "asr_y_resisted"]
    assert [str(request) for request in requests(every, None, ["x", "y"])] == [
        "original:plain",
        "erased:plain",
        "erased:attack:x",
        "erased:attack:y",
    ]


class Red(Detector):
    labels, threshold = ("red",), 0.4

    def scores(self, images):
        return images[:, :1].mean(dim=(2, 3))


def evidence(tmp_path, model=None):
    red = Concept(
        kind="object", phrases=["red"], anchor="", retain=[], prompts=None, detector="red", labels=["red"]
    )
    store, model = Store(tmp_path), model or Model()
    images = {
        request: generate(store, model, request)
        for request in (ImageRequest("plain", "original"), ImageRequest("plain", "erased"))
    }
    return Evidence(ConceptSet(erase={"red": red}), images, {"red": Red()})


def test_scores_images_from_disk_and_lists_them(tmp_path):
    found = evidence(tmp_path / "artifacts")
    metrics = {"erased": DetectionRate(role="plain", known_from=50)}
    scores, warnings = scoring.values(metrics, found)
    assert (scores["erased"].value, scores["erased"].original.value) == (0, 100)
    assert warnings == []
    rows = scoring.items(found.images, scores, {}, tmp_path / "runs" / "one")
    assert len(rows) == 10
    assert rows[0]["scores"] == {"erased": 1.0}
    assert rows[0]["model"] == "original"
    assert rows[9]["scores"] == {"erased": 0.0}
    assert rows[9]["prompt"] == "e"
    assert (tmp_path / "runs" / "one" / rows[9]["image"]).resolve().exists() or rows[9]["image"].startswith(
        "../.."
    )


def test_undefined_scores_are_left_out_and_said(tmp_path):
    found = evidence(tmp_path)
    images = {
        ImageRequest("synonym", model): generate(
            Store(tmp_path), None, ImageRequest("synonym", model), prompts=PROMPTS.limited(0)
        )
        for model in ("original", "erased")
    }
    scores, warnings = scoring.values(
        {"erased_synonym": DetectionRate(role="synonym", known_from=50)},
        Evidence(found.concepts, images, found.detectors),
    )
    assert scores == {}
    assert warnings == ["erased_synonym: the concept has no prompts of the role 'synonym'."]


def test_blank_images_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "draw", lambda *_, **__: iter([torch.full((5, 3, 8, 8), 0.2)]))
    _, warnings = scoring.values({}, evidence(tmp_path))
    assert warnings[0].startswith("original:plain: 5 of 5 images are blank")
