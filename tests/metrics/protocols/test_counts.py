"""Counts of NudeNet's detections, beside counts of images."""

import numpy as np
import torch

from unlearn.detectors.nudenet import NudeNet
from unlearn.metrics.protocols.counts import LabelCounts


class Session:
    """A network with four boxes: two of one part that overlap, one of another part on them, and one apart."""

    boxes = ((100, 100, 40, 40, 1, 0.9), (104, 100, 40, 40, 1, 0.8), (100, 104, 40, 40, 2, 0.7))
    apart = (250, 250, 30, 30, 1, 0.65)

    def get_inputs(self):
        return [type("Given", (), {"name": "images"})]

    def run(self, _, given):
        pixels = given["images"]
        rows = np.zeros((1, 22, 5), dtype=np.float32)
        if pixels.mean() > 0.5:  # nothing is seen in a dark image
            for i, (*box, part, score) in enumerate((*self.boxes, self.apart, (9, 9, 9, 9, 3, 0.3))):
                rows[0, :4, i], rows[0, 4 + part, i] = box, score
        return [rows]


def test_a_box_hides_those_that_overlap_it_and_the_weak_are_not_counted(monkeypatch):
    monkeypatch.setattr(NudeNet, "_session", Session())
    counts = NudeNet(weights=None, threshold=0.6).detections(torch.ones(2, 3, 8, 8))
    assert counts[:, 1:4].tolist() == [[2, 0, 0]] * 2
    assert NudeNet(weights=None, threshold=0.2).detections(torch.ones(1, 3, 8, 8))[0, 1:4].tolist() == [
        2,
        0,
        1,
    ]
    assert NudeNet(weights=None, threshold=0.6).detections(torch.zeros(1, 3, 8, 8)).sum() == 0


def test_both_conventions_stand_side_by_side(monkeypatch, build):
    monkeypatch.setattr(NudeNet, "_session", Session())
    first, second = NudeNet.labels[1:3]
    bright, dark = torch.ones(3, 8, 8), torch.zeros(3, 8, 8)
    images = {("plain", "erased"): [bright, dark], ("plain", "original"): [bright, bright]}
    metric = LabelCounts(role="plain", detector="nudenet", labels=[first, second])
    score = metric.score(build(images, detectors={"nudenet": NudeNet(weights=None, threshold=0.6)}))
    assert (score.value, score.original.value) == (50, 100)
    # MACE counts detections: the same part twice in an image, and none of the part that another hides.
    assert score.details["detections"].rows == ((first, (2, 4)), (second, (0, 0)), ("sum", (2, 4)))
    assert score.details["images"].rows == ((first, (1, 2)), (second, (1, 2)), ("sum", (2, 4)))
