"""Distances of sets: which set is whose, whatever the estimator."""

import pytest
import torch
from colour_world import picture

from unlearn.metrics.distribution import CMMD, FID, KID

ROLES = ["neighbour", "unrelated"]
KINDS = {"fid": lambda **own: FID(**own, enough=1), "kid": KID, "cmmd": CMMD}
#: By role: the images of one model and of another.
ONE = {"neighbour": ["house", "cat", "church", "house"], "unrelated": ["cat", "cat", "house", "church"]}
OTHER = {"neighbour": ["cat", "cat", "cat", "house"], "unrelated": ["cat", "cat", "cat", "church"]}


def scored(build, kind, erased, original, against, first=(0, 100)):
    models = {"erased": (erased, first[0]), "original": (original, first[1])}
    images = {
        (role, model): [picture(label, 0.1, start + 10 * k + i) for i, label in enumerate(labels[role])]
        for model, (labels, start) in models.items()
        for k, role in enumerate(ROLES)
    }
    return KINDS[kind](features="clip", roles=ROLES, against=against).score(build(images))


@pytest.mark.parametrize("kind", KINDS)
def test_to_real_images_each_model_has_its_own_distance(build, kind):
    straight = scored(build, kind, ONE, OTHER, "reference")
    turned = scored(build, kind, OTHER, ONE, "reference", (100, 0))
    assert straight.value != pytest.approx(straight.original.value)
    assert straight.value == pytest.approx(turned.original.value)
    assert straight.original.value == pytest.approx(turned.value)
    assert straight.interval == pytest.approx(turned.original.interval)
    assert straight.original.interval == pytest.approx(turned.interval)
    assert straight.difference.value == pytest.approx(straight.value - straight.original.value)
    assert straight.difference.value == pytest.approx(-turned.difference.value)
    for one in (straight, straight.original, straight.difference):
        assert one.interval is None or one.interval[0] < one.value < one.interval[1]
    assert (straight.n, straight.expected, straight.failed) == (8, 8, 0)
    assert straight.better == "lower"


@pytest.mark.parametrize("kind", KINDS)
def test_to_the_original_the_original_is_at_no_distance_and_either_way_is_as_far(build, kind):
    straight = scored(build, kind, ONE, OTHER, "original")
    turned = scored(build, kind, OTHER, ONE, "original", (100, 0))
    assert straight.value > 0
    assert straight.value == pytest.approx(turned.value)
    assert straight.original.value == pytest.approx(0, abs=1e-9)
    assert straight.difference.value == pytest.approx(straight.value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_farther_from_the_original_is_at_a_greater_distance(build, kind):
    near = {**ONE, "neighbour": ["house", "cat", "church", "cat"]}
    far = {role: ["cat"] * 4 for role in ROLES}
    values = [scored(build, kind, each, ONE, "original").value for each in (ONE, near, far)]
    assert values == sorted(values)
    assert len(set(values)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_that_could_not_be_read_is_left_out_of_both_sets(build, kind):
    images = {
        (role, model): [picture(label, 0.1, i) for i, label in enumerate(ONE[role])]
        for role in ROLES
        for model in ("erased", "original")
    }
    evidence = build(images, failures=8)
    metric = KINDS[kind](features="clip", roles=ROLES, against="original")
    whole, clip = metric.score(evidence), evidence.detectors["clip"]
    assert (whole.value, whole.n) == (pytest.approx(0, abs=1e-9), 8)
    read = type(clip).features

    def broken(images):
        return read(clip, images).masked_fill(images[:, 1].mean(dim=(1, 2))[:, None] > 0.5, torch.nan)

    clip.features = broken  # cats
    score = metric.score(build(images, failures=8, detectors={"clip": clip}))
    assert (score.n, score.expected, score.failed) == (5, 8, 3)
    assert score.value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_than_two_images_have_no_distance(build, kind):
    metric = KINDS[kind](features="clip", roles=ROLES, against="reference")
    images = {(role, model): [] for role in ROLES for model in ("erased", "original")}
    none = metric.score(build(images))
    assert (none.value, none.unit, none.better) == (None, metric.unit, "lower")
    assert "0 images" in none.warnings[0]
    one = {key: [picture("cat")] if key[0] == "neighbour" else [] for key in images}
    assert "1 images" in metric.score(build(one)).warnings[0]
    two = {key: [picture("cat"), picture("house")] if key[0] == "neighbour" else [] for key in images}
    assert metric.score(build(two)).n == 2
