"""What makes scores doubtful, seen in images that are known."""

import pytest
import torch
from noise_world import Model, generate
from painted_world import attacks, images, judging, painted

from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.metrics.evidence import Evidence
from unlearn.pipeline import doubts, drawing
from unlearn.store.artifacts import Store


@pytest.fixture(autouse=True)
def _painted(monkeypatch):
    monkeypatch.setattr(drawing, "draw", painted)


def said(tmp_path, change=None):
    """All doubts about the painted world, after some of its images became others."""
    store = Store(tmp_path)
    drawn, who = images(store), judging()
    for request, texts in (change or {}).items():
        n = len(texts)
        prompts = PromptSet(request.prompts, tuple(texts), tuple(range(n)), ("",) * n, ("red",) * n)
        drawn[request] = generate(store, Model(), request, prompts=prompts)
    return doubts.hard_to_believe(attacks(store), Evidence(who.concepts, drawn, who.detectors, who.failures))


WHITE, NEIGHBOUR = ImageRequest("attack:white"), ImageRequest("neighbour", "original")


def test_an_image_that_breaks_the_detector_takes_no_side(tmp_path):
    # The control shows the first two prompts: of the first nobody knows under attack, the second shows there.
    quiet = {NEIGHBOUR: ["f~"]}
    assert said(tmp_path, {**quiet, WHITE: ["a?", "b!", "c"]}) == []
    (one,) = said(tmp_path, {**quiet, WHITE: ["a?", "b", "c"]})
    assert one.startswith("white: brings the concept back for 0 of 2 prompts, and the control chance for 1")


def test_false_alarms_are_a_share_of_the_neighbours_that_could_be_judged(tmp_path):
    quiet = {WHITE: ["a!", "b!", "c"]}
    (one,) = said(tmp_path, {**quiet, NEIGHBOUR: ["f", "g~", "h~?"]})
    assert one.startswith("red: its detector also fires on 50 % of")
    assert said(tmp_path, {**quiet, NEIGHBOUR: [f"{i}~" for i in range(4)]}) == []


def test_only_attacks_whose_images_were_drawn_are_doubted(tmp_path):
    store, who = Store(tmp_path), judging()
    found = attacks(store)

    def evidence(drawn):
        return Evidence(who.concepts, drawn, who.detectors, who.failures)

    drawn = images(store)
    del drawn[ImageRequest("attack:chance")]
    (alarms,) = doubts.hard_to_believe(found, evidence(drawn))
    assert alarms.startswith("red: its detector")
    assert doubts.hard_to_believe({}, evidence(drawn)) == []
    few = images(store, neighbours=False)
    (beaten,) = doubts.hard_to_believe(found, evidence(few))
    assert beaten.startswith("white: brings")


def test_blank_images_are_counted_set_by_set():
    """An image is blank if its values spread by less than two of 255 steps."""

    class Images:
        def __init__(self, *spreads):
            self.spreads = spreads

        def __len__(self):
            return len(self.spreads)

        def batches(self, size):
            assert size > 1
            for spread in self.spreads:
                image = torch.full((3, 2, 2), 0.5)
                image[:, 0] += spread
                image[:, 1] -= spread
                yield image[None]

    sets = {
        ImageRequest("plain"): Images(0.0, 0.0072, 0.0079, 0.3),
        ImageRequest("plain", "original"): Images(0.3, 0.01),
        WHITE: Images(0.001),
    }
    assert [text.split(" images")[0] for text in doubts.blanks(Evidence(judging().concepts, sets, {}))] == [
        "erased:plain: 2 of 4",
        "erased:attack:white: 1 of 1",
    ]
