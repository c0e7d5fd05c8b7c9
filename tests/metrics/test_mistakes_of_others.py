"""Mistakes of published evaluation code, which must not be ours."""

from pathlib import Path

import pytest
import torch
from colour_world import ColourClip, picture

from unlearn.concepts.images import ImageRequest, image_name, read_image, write_image
from unlearn.errors import ArtifactError
from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.detection import DetectionRate
from unlearn.pipeline.scoring import items

ERASED = ImageRequest("plain", "erased")
LABELS = ("church", "cat", "house", "cat", "church", "house", "house", "cat", "cat", "house", "church", "cat")
CLIP_SCORE = CLIPScore(clip="clip", roles=["plain"])


def evidence_of(build):
    """Twelve images, each with a prompt that names what it shows."""
    images = {("plain", model): [picture(label, 0.05, i) for i, label in enumerate(LABELS)] for model in
              ("erased", "original")}  # fmt: skip
    return build(images, prompts={"plain": [f"a {label}" for label in LABELS]})


def test_a_stray_file_shifts_no_image_to_another_s_prompt(build):
    # MACE's script pairs the sorted files of a folder with the rows of a CSV, and checks their number alone.
    evidence = evidence_of(build)
    folder = evidence.images[ERASED].folder
    before = CLIP_SCORE.score(evidence).per_image[ERASED]
    for name in ("00000 (copy).png", "0.png", "a.png", "00000.jpg"):
        write_image(folder / name, picture("church"))
    again = evidence_of_same(evidence)
    assert CLIP_SCORE.score(again).per_image[ERASED] == before
    assert min(before) > 90  # each image fits its own prompt


def test_an_image_that_is_missing_is_none_that_the_next_one_stands_for(build):
    evidence = evidence_of(build)
    folder = evidence.images[ERASED].folder
    (folder / image_name(3)).unlink()
    write_image(folder / image_name(len(LABELS)), picture("cat"))  # the number of files is right
    with pytest.raises(ArtifactError, match=r"00003\.png: the image cannot be read"):
        CLIP_SCORE.score(evidence)


def test_a_swapped_pair_of_images_is_seen_in_both_scores(build):
    evidence = evidence_of(build)
    folder = evidence.images[ERASED].folder
    first, second = (read_image(folder / image_name(i)) for i in (0, 1))
    write_image(folder / image_name(0), second)
    write_image(folder / image_name(1), first)
    scores = CLIP_SCORE.score(evidence).per_image[ERASED]
    assert [i for i, score in enumerate(scores) if score < 90] == [0, 1]


def test_what_is_said_of_an_image_names_the_file_that_it_was_said_of(build):
    # RG's script writes "Image i + 1" for file i.
    evidence = evidence_of(build)
    metrics = {"erased": DetectionRate(role="plain", known_from=5), "clip_score": CLIP_SCORE}
    scores = {name: metric.score(evidence) for name, metric in metrics.items()}
    root = evidence.images[ERASED].folder.parent
    rows = items(evidence.images, scores, {}, root)
    assert len(rows) == 2 * len(LABELS)
    for row in rows:
        pixels = read_image(root / row["image"])
        label = ("church", "cat", "house")[int(pixels.mean(dim=(1, 2)).argmax())]
        assert Path(row["image"]).name == image_name(row["index"])
        assert row["prompt"] == f"a {label}" == f"a {LABELS[row['index']]}"
        assert row["seed"] == row["index"]
        assert row["scores"]["erased"] == (label == "church")


def test_an_image_is_seen_in_rgb_and_whole_whatever_was_read_before(build):
    # NudeNet's package swaps the channels of files, RG's script crops at random while it evaluates.
    seen = []

    class Watching(ColourClip):
        def features(self, images):
            seen.append(images.clone())
            return super().features(images)

    evidence = evidence_of(build)
    for _ in range(2):
        CLIP_SCORE.score(evidence_of_same(evidence, {"clip": Watching()}))
    erased, original, *again = seen
    assert torch.equal(erased, again[0])
    assert torch.equal(original, again[1])
    assert erased.shape == (len(LABELS), 3, 4, 4)
    channels = erased.mean(dim=(2, 3)).argmax(dim=1).tolist()
    assert channels == [("church", "cat", "house").index(label) for label in LABELS]


def evidence_of_same(evidence, detectors=None):
    """The same images, of which nothing is known yet."""
    known = {**evidence.detectors, **(detectors or {})}
    return type(evidence)(evidence.concepts, evidence.images, known)
