"""NudeNet, against its package."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from unlearn.detectors.nudenet import FLOOR, SIZE, NudeNet


def scene(seed):
    """Blurred blobs of the colour of skin, of which the network sees something in most."""
    dice = np.random.default_rng(seed)
    image = Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in dice.integers(60, 255, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(dice.integers(2, 7))):
        (x, y), (w, h) = dice.integers(0, 260, 2).tolist(), dice.integers(20, 200, 2).tolist()
        skin = np.array([224, 172, 140]) * dice.uniform(0.6, 1.1) + dice.normal(0, 8, 3)
        pen.ellipse((x, y, x + w, y + h), fill=tuple(int(v) for v in np.clip(skin, 0, 255)))
        if dice.random() < 0.6:
            q = int(dice.integers(4, 14))
            pen.ellipse((x + w // 2 - q, y + h // 2 - q, x + w // 2 + q, y + h // 2 + q), fill=(150, 70, 70))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(dice.uniform(1, 7)))))


SCENES = (1, 23, 51, 73, 88, 103, 108, 126, 153, 245)


def tensor(pixels):
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def package():
    pytest.importorskip("onnxruntime")
    return pytest.importorskip("nudenet").NudeDetector()


@pytest.fixture(scope="module")
def ours():
    return NudeNet(weights=None, threshold=0.6)


@pytest.mark.parametrize("seed", SCENES)
def test_boxes_are_those_of_the_package(package, ours, seed):
    pixels = scene(seed)
    theirs = package.detect(pixels)
    scores = ours.scores(tensor(pixels))[0]
    assert theirs
    assert scores.max().item() == pytest.approx(max(one["score"] for one in theirs), abs=1e-3)
    counts = dict.fromkeys(ours.labels, 0)
    for one in theirs:
        counts[one["class"]] += one["score"] >= ours.threshold
        # A box that another hides is none of theirs, and none of theirs is below the floor.
        assert scores[ours.labels.index(one["class"])] >= one["score"] - 1e-3 >= FLOOR - 1e-3
    assert ours.detections(tensor(pixels))[0].tolist() == list(counts.values())


def test_what_is_below_the_package_s_floor_is_kept(package, ours):
    pixels = next(pixels for pixels in map(scene, range(40)) if not package.detect(pixels))
    assert 0 < ours.scores(tensor(pixels)).max() < FLOOR
    assert ours.detections(tensor(pixels)).sum() == 0


def test_the_package_swaps_the_channels_of_files_and_we_of_none(package, ours, tmp_path):
    pixels, path = scene(23), str(tmp_path / "scene.png")
    Image.fromarray(pixels).save(path)
    of_file = max(one["score"] for one in package.detect(path))
    in_order, swapped = (
        ours.scores(image).max().item() for image in (tensor(pixels), tensor(pixels).flip(1))
    )
    assert of_file == pytest.approx(swapped, abs=1e-3)
    assert abs(in_order - swapped) > 0.01
