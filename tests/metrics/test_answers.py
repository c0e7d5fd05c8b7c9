"""Judges that cannot tell, that err and that disagree: every number worked out by hand."""

import math

import pytest
import torch
from colour_world import Broken, Colours, concept, picture

from unlearn.concepts.concept import ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.errors import Errors
from unlearn.metrics.agreement import agreement
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.detection import DetectionRate, errors
from unlearn.metrics.evidence import UNSURE
from unlearn.metrics.robustness import AttackSuccessRate
from unlearn.statistics.comparisons import tost_rates
from unlearn.statistics.judges import kappa, rogan_gladen
from unlearn.statistics.rates import rate_interval

DIM = torch.tensor([0.3, 0.2, 0.1])[:, None, None].repeat(1, 4, 4)
IMAGES = {
    "c": picture("church"),
    "h": picture("house"),
    ".": DIM,
    "_": torch.full((3, 4, 4), 0.3),
    "?": torch.ones(3, 4, 4),
}
ERRORS = {"church": Errors(90, 100, 95, 100, "labelled"), "house": Errors(40, 50, 30, 40, "labelled")}


class Careful(Broken):
    """Cannot tell what is dim, fails on white, and knows how often it errs."""

    def abstains(self, readout, label):  # noqa: ARG002
        return readout.amax(dim=1) < 0.5

    def errors(self, label):
        return ERRORS.get(label)


class Lax(Colours):
    """Sees a church in whatever is a little red."""

    def decide(self, readout, label):  # noqa: ARG002
        return readout[:, 0] > 0.25


def world(build, sets, **options):
    images = {key: [IMAGES[letter] for letter in letters] for key, letters in sets.items()}
    judges = {"judge": Careful(), "lax": Lax()}
    return build(images, failures=2, detectors=judges, **options)


def plain(erased, original):
    return {("plain", "erased"): erased, ("plain", "original"): original}


def test_what_a_judge_cannot_tell_counts_as_not_shown_and_bounds_the_rate(build):
    """Dim and blank images are unsure; white ones are missing; the third prompt has two seeds."""
    evidence = world(build, plain("c.h_?c", "cc.chh"), prompts={"plain": ["a", "b", "c", "c", "d", "e"]})
    score = DetectionRate(role="plain", known_from=61).score(evidence)
    assert (score.value, score.original.value, score.difference.value) == (40, 60, pytest.approx(-20))
    assert (score.n, score.expected, score.failed, score.prompts, score.unsure) == (5, 6, 1, 4, 2)
    assert score.bounds == (40, 80)
    ends = rate_interval(torch.tensor([1.0, 0, 0, 0, 1]), ["a", "b", "c", "c", "e"])
    assert score.interval == pytest.approx([100 * end for end in ends])
    ends = rate_interval(torch.tensor([1.0, 1, 0, 1, 0]), ["a", "b", "c", "c", "e"])
    assert score.original.interval == pytest.approx([100 * end for end in ends])
    # Only e shows it after the erasure alone, b and the second c before it alone.
    assert (score.mcnemar.erased, score.mcnemar.original, score.mcnemar.p) == (1, 2, 1)
    assert score.equivalence is None
    assert score.per_image[ImageRequest("plain")] == pytest.approx(
        (1, UNSURE, 0, UNSURE, math.nan, 1), nan_ok=True
    )
    assert "shows the concept in only 50 % of the images" in score.warnings[0]
    entry = score.to_json()
    assert entry["mcnemar"] == {"erased": 1, "original": 2, "p": 1}
    assert (entry["bounds"], entry["unsure"], entry["prompts"]) == ([40, 80], 2, 4)
    assert entry["corrected"]["value"] == score.corrected.value


def test_a_rate_is_corrected_by_what_its_judge_errs(build):
    """(p + Sp - 1) / (Se + Sp - 1) with p = .5, Se = .9, Sp = .95."""
    evidence = world(build, plain("chch", "cccc"))
    corrected = DetectionRate(role="plain", known_from=50).score(evidence).corrected
    assert corrected.value == pytest.approx(100 * (0.5 + 0.95 - 1) / 0.85)
    assert corrected.interval[0] < corrected.value < corrected.interval[1]
    wider = corrected.interval[1] - corrected.interval[0]
    raw = DetectionRate(role="plain", known_from=50).score(evidence).interval
    assert wider > raw[1] - raw[0]


@pytest.mark.parametrize(
    ("sensitivity", "specificity"), [((2, 10), (80, 100)), ((1, 1), (1, 4)), ((3, 10), (5, 10))]
)
def test_a_judge_that_does_no_better_than_chance_corrects_nothing(sensitivity, specificity):
    """By its counts; or by those with one success and one failure put to each: 2/3 and 2/6."""
    assert rogan_gladen(5, 10, sensitivity, specificity) is None


def test_a_part_and_an_attack_have_the_errors_of_their_own_concepts(build):
    both = ConceptSet(erase={"church": concept(), "house": concept(labels=["house"])})
    sets = {**plain("chhh", "cccc"), ("attack:x", "erased"): "chhh"}  # of church, house, church, house
    evidence = world(build, sets, concepts=both)
    metric = DetectionRate(role="plain", known_from=0)
    score = metric.score(evidence)
    # Both together: Se = 130 / 150, Sp = 125 / 140, and three of four show what is asked.
    together = 100 * (0.75 + 125 / 140 - 1) / (130 / 150 + 125 / 140 - 1)
    assert score.corrected.value == pytest.approx(together)
    part = metric.part(score, evidence, ["house"])
    assert (part.value, part.corrected.value) == (100, 100)
    church = metric.part(score, evidence, ["church"])
    assert church.corrected.value == pytest.approx(100 * (0.5 + 0.95 - 1) / 0.85)
    assert AttackSuccessRate(attack="x").score(evidence).corrected.value == pytest.approx(together)
    # All that was resisted is a church.
    resisted = AttackSuccessRate(attack="x", resisted=True).score(evidence)
    assert (resisted.value, resisted.n) == (0, 1)
    assert resisted.corrected.value == 0


def test_errors_are_known_where_those_of_every_label_are(build):
    def known(*labels):
        concepts = ConceptSet(erase={"church": concept(labels=list(labels))})
        return errors(world(build, plain("c", "c"), concepts=concepts), ["church", "nobody"])

    assert known("church") == ERRORS["church"]
    assert known("cat") is known("church", "cat") is None
    # One in twenty and one in four: three in ten of the forty.
    assert known("church", "house") == Errors(130, 150, 28, 40, "labelled")
    evidence = world(build, plain("c", "c"))
    assert errors(evidence, ["church"]) == ERRORS["church"]
    assert errors(evidence, ["other"]) is None


def test_accuracy_is_equivalent_within_its_margin(build):
    sets = {("neighbour", model): "h" * 19 + last for model, last in (("erased", "c"), ("original", "h"))}
    evidence = world(build, sets, shows={"neighbour": ["house"] * 20})
    names = [f"neighbour {i}" for i in range(20)]
    after, before = torch.tensor([1.0] * 19 + [0.0]), torch.ones(20)
    for margin, holds in ((4.0, False), (40.0, True)):
        score = ConceptAccuracy(role="neighbour", clip="clip", margin=margin).score(evidence)
        assert (score.equivalence.margin, score.equivalence.holds) == (margin, holds)
        assert score.equivalence.p == pytest.approx(tost_rates(after, before, names, margin / 100))
        assert score.to_json()["equivalence"]["holds"] is holds
    assert ConceptAccuracy(role="neighbour", clip="clip").score(evidence).equivalence is None


def test_two_judges_are_compared_on_the_images_that_ask_for_the_concept(build):
    """Of five that both could read: two both see, two the lax one alone, one neither."""
    sets = {**plain("c.h", "c.?"), ("neighbour", "original"): "hhc"}
    evidence = world(build, sets, prompts={"plain": ["a", "b", "c"]})
    (found,) = agreement(evidence, "lax")
    assert (found.concept, found.first, found.second) == ("church", "judge", "lax")
    assert (found.both, found.neither, found.only_first, found.only_second) == (2, 1, 0, 2)
    assert found.kappa == pytest.approx((0.6 - 0.44) / 0.56)
    value, ends = kappa([1, 0, 0, 1, 0], [1, 1, 0, 1, 1], ["a", "b", "c", "a", "b"])
    assert (found.kappa, found.interval) == (pytest.approx(value), pytest.approx(ends))
    assert found.doubt.startswith("judge and lax do not agree on what shows church (kappa 0.29, below 0.6)")
    assert "judge alone sees it in 0 images, lax alone in 2, both in 2, neither in 1." in found.doubt
    assert agreement(evidence, None) == agreement(evidence, "judge") == []
    (alike,) = agreement(world(build, plain("ch", "ch")), "lax")
    assert (alike.kappa, alike.doubt) == (1, None)
    (never,) = agreement(world(build, plain("hh", "hh")), "lax")
    assert (never.neither, never.kappa, never.interval, never.doubt) == (4, None, None, None)
    assert agreement(world(build, plain("??", "??")), "lax") == []
