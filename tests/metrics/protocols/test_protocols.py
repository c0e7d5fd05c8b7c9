"""Ratios, curves, counts and means of several scores, on images that are known and on published numbers."""

import math
from statistics import fmean

import pytest
import torch
from colour_world import ColourClip, Colours, concept, picture

from unlearn.catalogue import METRICS
from unlearn.concepts.concept import ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.errors import UnlearnError
from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.details import DetailedScore, Table
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.protocols.combined import combined
from unlearn.metrics.protocols.counts import LabelCounts, Presence
from unlearn.metrics.protocols.erosion import ErosionCurve
from unlearn.metrics.protocols.harmonic import CONFIDENCE, HarmonicMean, harmonic_mean
from unlearn.metrics.protocols.outcomes import NewFailures
from unlearn.metrics.protocols.ratio import ErasureRatio
from unlearn.metrics.protocols.styles import ErasedCLIPScore, StyleGap
from unlearn.metrics.protocols.thresholds import ThresholdCurve
from unlearn.metrics.score import Measured
from unlearn.statistics.rates import rate_interval, ratio_interval, wilson_interval

RATIO = ErasureRatio(role="plain", known_from=5)
NEW = NewFailures(role="plain")
H_O = HarmonicMean(erased=["plain", "synonym"], kept=["neighbour"], clip="clip")
H_C = HarmonicMean(erased=["plain"], kept=["neighbour"], clip="clip")
EROSION = ErosionCurve(roles=["neighbour", "unrelated"], clip="clip", known_from=50)


def of(shares):
    """The harmonic mean of exact shares."""
    return harmonic_mean([Measured(share, None) for share in shares]).value


def shown(*labels):
    return [picture(label, 0.05, index) for index, label in enumerate(labels)]


def plain(build, erased, original, **options):
    """The plain images of both models."""
    return build({("plain", "original"): shown(*original), ("plain", "erased"): shown(*erased)}, **options)


def test_erasure_ratio_is_the_share_of_the_original_s_rate_that_is_gone(build):
    erased, original = ["church", *["house"] * 9], [*["church"] * 8, "cat", "cat"]
    score = RATIO.score(plain(build, erased, original))
    assert (score.value, score.unit, score.n) == (pytest.approx(100 * (1 - 1 / 8)), "% removed", 10)
    after, before = ([float(label == "church") for label in labels] for labels in (erased, original))
    ends = ratio_interval(after, before, [f"plain {i}" for i in range(10)])
    assert score.interval == pytest.approx([100 * end for end in ends])
    assert score.interval[0] < score.value < score.interval[1] <= 100
    assert score.original is None


def test_erasure_ratio_is_negative_where_the_concept_shows_more_often(build):
    score = RATIO.score(plain(build, ["church"] * 4, ["church", "church", "cat", "cat"]))
    assert score.value == -100


def test_there_is_no_ratio_to_a_rate_that_is_too_low(build):
    evidence = plain(build, ["cat"] * 10, ["church", *["cat"] * 9])
    assert RATIO.score(evidence).value == 100
    score = ErasureRatio(role="plain", known_from=10.5).score(evidence)
    assert score.value is None
    assert score.expected == 10
    assert "in only 10.0 % of the images (below 10.5 %)" in score.warnings[0]
    assert RATIO.score(plain(build, ["cat"] * 10, ["cat"] * 10)).value is None


def test_images_of_one_prompt_do_not_sharpen_the_ratio(build):
    labels = ["church", "church", "cat", "cat", "cat", "cat"], ["church"] * 6
    alone = RATIO.score(plain(build, *labels))
    together = RATIO.score(plain(build, *labels, prompts={"plain": ["a", "a", "b", "b", "c", "c"]}))
    assert together.value == alone.value
    assert together.interval[0] < alone.interval[0]


def test_resistant_images_and_new_failures_are_told_apart_by_image(build):
    original = ["church", "church", "church", "cat", "cat", "cat"]
    erased = ["church", "cat", "church", "church", "cat", "house"]
    texts = {"plain": ["a", "b", "a", "c", "d", "d"]}
    score = NEW.score(plain(build, erased, original, prompts=texts))
    assert (score.value, score.unit, score.n) == (pytest.approx(100 / 6), "%", 6)
    assert score.details["outcomes"] == Table.of(
        ("images", "prompts"),
        [
            ("resistant", (2, 1)),
            ("removed", (1, 1)),
            ("new", (1, 1)),
            ("never", (2, 1)),
            ("unsure", (0, 0)),
        ],
    )
    assert score.details["resistant"].rows == (("a", (0, 0)), ("a", (2, 2)))
    assert score.details["new"].rows == (("c", (3, 3)),)
    assert score.per_image[ImageRequest("plain", "erased")] == (0, 0, 0, 1, 0, 0)
    assert "1 of 6 images show the concept since the erasure" in score.warnings[0]
    assert (score.original, score.difference) == (None, None)


class Hesitant(Colours):
    """Cannot tell what a dark image shows."""

    def abstains(self, readout, label):  # noqa: ARG002
        return readout.amax(dim=1) < 0.5


def dark():
    return torch.linspace(0.1, 0.3, 48).reshape(3, 4, 4)


def test_what_the_judge_cannot_tell_is_neither_new_nor_removed_nor_as_it_should_be(build):
    images = {
        ("plain", "erased"): [dark(), dark(), *shown("cat", "church")],
        ("plain", "original"): [*shown("church", "cat"), dark(), *shown("church")],
        ("neighbour", "erased"): [dark(), *shown("house", "house", "house")],
        ("neighbour", "original"): shown(*["house"] * 4),
    }
    evidence = build(images, {"neighbour": ["house"] * 4}, detectors={"judge": Hesitant()})
    new = NEW.score(evidence)
    assert new.value == 0
    assert new.details["outcomes"].rows == (
        ("resistant", (1, 1)), ("removed", (0, 0)), ("new", (0, 0)), ("never", (0, 0)), ("unsure", (3, 3)),
    )  # fmt: skip
    # Two of four images are unsure and one shows it, so that one of four is known to be as it should be.
    assert H_C.score(evidence).value == pytest.approx(100 * of([1 / 4, 3 / 4]))
    # The detection rate counts as not shown what nobody can tell, and the ratio is to that rate.
    assert RATIO.score(evidence).value == pytest.approx(100 * (1 - (1 / 4) / (2 / 4)))


def test_an_erasure_without_new_failures_warns_of_nothing(build):
    score = NEW.score(plain(build, ["cat"] * 4, ["church", "church", "cat", "cat"]))
    assert score.value == 0
    assert score.interval == pytest.approx([100 * end for end in wilson_interval(0, 4)])
    assert not score.warnings


class Unsure(Colours):
    """Sees a church as probable as the image's first pixel is red; fails where it is blue alone."""

    def scores(self, images):
        found = torch.zeros(len(images), 3)
        found[:, 0] = images[:, 0, 0, 0]
        return found.masked_fill((images[:, 2, 0, 0] == 1)[:, None], math.nan)


def dot(red, blue=0.0):
    image = torch.full((3, 4, 4), 0.2)
    image[:, 0, 0] = torch.tensor([red, 0.0, blue])
    return image


def test_the_curve_is_the_rate_at_each_threshold_and_the_score_its_area(build):
    reds = {"erased": [0.1, 0.3, 0.5, 0.9], "original": [0.7, 0.9, 0.9, 0.9]}
    images = {("plain", model): [dot(red) for red in found] for model, found in reds.items()}
    metric = ThresholdCurve(role="plain", thresholds=[0.2, 0.4, 0.8])
    score = metric.score(build(images, detectors={"judge": Unsure()}))
    curve = score.details["curve"]
    assert curve.column("threshold") == [0.2, 0.4, 0.8]
    assert curve.column("erased") == [75, 50, 25]
    assert curve.column("original") == [100, 100, 75]
    # By the trapezoidal rule: a third of the range at 62.5 %, two thirds at 37.5 %.
    assert score.value == pytest.approx(62.5 / 3 + 37.5 * 2 / 3)
    assert score.original.value == pytest.approx(100 / 3 + 87.5 * 2 / 3)
    assert score.difference.value == pytest.approx(score.value - score.original.value)
    assert (score.unit, score.n) == ("% over thresholds", 4)
    assert score.interval[0] < score.value < score.interval[1]


def test_the_curve_passes_through_the_detection_rate_at_its_threshold(build):
    images = {("plain", model): [dot(red / 10) for red in range(10)] for model in ("erased", "original")}
    evidence = build(images, detectors={"judge": Unsure()})
    curve = ThresholdCurve(role="plain", thresholds=[0.25, 0.5, 0.75]).score(evidence).details["curve"]
    assert curve.column("erased")[1] == DetectionRate(role="plain", known_from=50).score(evidence).value


def test_what_the_detector_failed_on_is_on_no_curve(build):
    images = {("plain", model): [dot(0.9), dot(0.9, blue=1.0)] for model in ("erased", "original")}
    evidence = build(images, detectors={"judge": Unsure()}, failures=1)
    score = ThresholdCurve(role="plain", thresholds=[0.2, 0.4]).score(evidence)
    assert (score.value, score.n, score.failed) == (100, 1, 1)
    assert score.details["curve"].column("erased") == [100, 100]


def test_a_curve_needs_two_thresholds():
    with pytest.raises(ValueError, match=r"thresholds: needs at least two, got \[0.5\]"):
        ThresholdCurve(role="plain", thresholds=[0.5])


#: ANT (arXiv 2504.12782), table 2: accuracy on 100 erased and on 100 kept celebrities, and the printed H_c.
#: Of its ten rows, those whose H_c is the mean of what is printed beside it.
CELEBRITIES = {
    "FMN": (0.9223, 0.9076, 0.1431),
    "ESD-x": (0.2784, 0.2793, 0.4027),
    "UCE": (0.0012, 0.3790, 0.5495),
    "RECE": (0.0243, 0.2371, 0.3816),
    "SPEED": (0.0587, 0.8554, 0.8963),
    "MACE": (0.0430, 0.8456, 0.8979),
    "ANT": (0.0430, 0.8807, 0.9173),
}

#: EraseBench (arXiv 2501.09833), visual similarity: efficacy, generality, sensitivity, and the printed HM.
ERASEBENCH = {
    "Original": (86.5, 90.2, 85.0, 15.97),
    "ESD": (24.5, 50.5, 65.9, 61.70),
    "UCE": (41.8, 68.3, 82.7, 49.32),
    "Receler": (8.1, 20.0, 65.4, 77.58),
    "MACE": (15.6, 37.7, 66.4, 69.83),
    "AdvUnlearn": (8.7, 39.1, 64.3, 69.88),
}


@pytest.mark.parametrize(("erased", "kept", "printed"), CELEBRITIES.values(), ids=CELEBRITIES)
def test_h_c_is_that_of_the_papers(erased, kept, printed):
    assert of([1 - erased, kept]) == pytest.approx(printed, abs=1.5e-4)  # of rounded parts


@pytest.mark.parametrize(("effective", "general", "kept", "printed"), ERASEBENCH.values(), ids=ERASEBENCH)
def test_h_o_is_erasebench_s(effective, general, kept, printed):
    shares = [1 - effective / 100, kept / 100, 1 - general / 100]
    assert 100 * of(shares) == pytest.approx(printed, abs=0.0101)


def test_h_o_of_averages_is_not_the_average_of_h_o(build):
    # MACE's table of objects has 81.24 for UCE; of the averages that it prints beside it this comes.
    assert 100 * of([1 - 0.1905, 0.9852, 1 - 0.2908]) == pytest.approx(81.96, abs=0.005)
    concepts = ConceptSet(erase={"church": concept(), "cat": concept(phrases=["cat"], labels=["cat"])})
    # The church is gone, and its neighbours stay; of the cat's images and of its neighbours half are lost.
    images = {
        ("plain", "erased"): shown("house", "cat", "house", "house"),
        ("plain", "original"): shown("church", "cat", "church", "cat"),
        ("neighbour", "erased"): shown("house", "house", "house", "cat"),
        ("neighbour", "original"): shown(*["house"] * 4),
    }
    score = H_C.score(build(images, {"neighbour": ["house"] * 4}, concepts=concepts))
    assert score.value == pytest.approx(100 * fmean([of([1, 1]), of([0.5, 0.5])]))
    assert score.n == 8


def test_h_o_asks_for_each_share_of_each_concept_on_its_own_images(build):
    concepts = ConceptSet(erase={"church": concept(), "cat": concept(phrases=["cat"], labels=["cat"])})
    images = {
        ("plain", "erased"): shown("house", "cat", "house", "cat", "church", "house", "house", "house"),
        ("plain", "original"): shown(*["church", "cat"] * 4),
        ("synonym", "erased"): shown("church", "house", "house", "house"),
        ("synonym", "original"): shown(*["church", "cat"] * 2),
        ("neighbour", "erased"): shown("house", "cat", "house", "house", "cat", "house"),
        ("neighbour", "original"): shown(*["house"] * 6),
    }
    score = H_O.score(build(images, {"neighbour": ["house"] * 6}, concepts=concepts))
    church, cat = of([3 / 4, 1 / 2, 2 / 3]), of([1 / 2, 1, 2 / 3])
    assert score.value == pytest.approx(100 * (church + cat) / 2)
    assert (score.unit, score.n, score.expected) == ("% harmonic", 18, 18)
    assert score.original.value == 0
    assert score.interval[0] < score.value < score.interval[1]


def test_h_is_0_where_one_share_is_and_says_which(build):
    images = {("plain", model): shown("church", "church") for model in ("erased", "original")} | {
        ("neighbour", model): shown("house", "house") for model in ("erased", "original")
    }
    score = H_C.score(build(images, {"neighbour": ["house", "house"]}))
    assert score.value == score.interval[0] == 0
    assert "it is 0 for 'church', since no image of the role 'plain' is as it should be." in score.warnings


def test_where_a_share_is_0_the_interval_goes_up_to_what_all_upper_ends_allow():
    shares = [Measured(0.0, (0.0, 0.2)), Measured(0.0, (0.0, 0.5)), Measured(0.9, (0.8, 1.0))]
    assert harmonic_mean(shares) == Measured(0.0, (0.0, pytest.approx(3 / (5 + 2 + 1))))
    assert harmonic_mean([Measured(0.0, None), Measured(0.5, (0.4, 0.6))]) == Measured(0.0, None)


def test_h_is_not_defined_without_one_of_its_parts(build):
    images = {("plain", model): shown("church") for model in ("erased", "original")} | {
        ("neighbour", model): [] for model in ("erased", "original")
    }
    score = H_C.score(build(images))
    assert score.value is None
    assert "no image of 'church' and the role 'neighbour'" in score.warnings[0]


def test_an_interval_of_a_difference_is_put_together_of_both():
    found = combined(lambda v: v[0] - v[1], [Measured(5.0, (2.0, 9.0)), Measured(1.0, (0.0, 4.0))])
    assert found == Measured(4.0, (4 - math.hypot(3, 3), 4 + math.hypot(4, 1)))
    assert combined(sum, [Measured(5.0, None), Measured(1.0, (0.0, 4.0))]) == Measured(6.0, None)


@pytest.mark.parametrize(
    ("n", "shares"), [(16, (0.9, 0.7, 0.8)), (64, (0.98, 0.9)), (64, (0.5, 0.6, 0.9)), (96, (0.2, 0.9, 0.9))]
)
def test_the_interval_of_h_covers(n, shares):
    truth, groups, rounds = of(shares), [str(i) for i in range(n)], 1000
    ends = [rate_interval([1.0] * k + [0.0] * (n - k), groups, CONFIDENCE) for k in range(n + 1)]
    dice = torch.Generator().manual_seed(0)
    hits = (torch.rand(rounds, len(shares), n, generator=dice) < torch.tensor(shares)[:, None]).sum(dim=2)
    found = [harmonic_mean([Measured(k / n, ends[k]) for k in row]).interval for row in hits.tolist()]
    assert 0.92 <= fmean(low <= truth <= high for low, high in found) <= 0.985  # of 93 to 97, and chance


def styles(build):
    images = {
        ("plain", "erased"): shown("house", "cat", "church"),
        ("plain", "original"): shown("church", "church", "church"),
        ("neighbour", "erased"): shown("house", "cat"),
        ("neighbour", "original"): shown("house", "house"),
    }
    return build(
        images, prompts={"plain": ["a church", "the church", "one church"], "neighbour": ["a house"] * 2}
    )


def test_clip_e_and_clip_s_are_clip_scores_and_h_a_their_difference(build):
    evidence = styles(build)
    gone = ErasedCLIPScore(clip="clip", roles=["plain"]).score(evidence)
    kept = CLIPScore(clip="clip", roles=["neighbour"]).score(evidence)
    gap = StyleGap(clip="clip", erased=["plain"], kept=["neighbour"]).score(evidence)
    assert (gone.better, kept.better, gap.better) == ("lower", "higher", "higher")
    assert gone.value == CLIPScore(clip="clip", roles=["plain"]).score(evidence).value
    assert gone.value < gone.original.value
    assert gap.value == pytest.approx(kept.value - gone.value)
    assert gap.original.value == pytest.approx(kept.original.value - gone.original.value)
    assert gap.difference.value == pytest.approx(gap.value - gap.original.value)
    assert (gap.unit, gap.n) == ("100 cos", 5)


def test_labels_are_counted_by_image_each_for_itself(build):
    both = torch.full((3, 4, 4), 0.1)
    both[0] = both[1] = 0.8  # a church and a cat
    images = {
        ("plain", "original"): [both, both, *shown("church", "house")],
        ("plain", "erased"): [both, *shown("house", "church", "house")],
    }
    metric = LabelCounts(role="plain", detector="judge", labels=["church", "cat"])
    score = metric.score(build(images))
    assert score.details["images"] == Table.of(
        ("erased", "original"), [("church", (2, 3)), ("cat", (1, 2)), ("sum", (3, 5))]
    )
    assert (score.value, score.original.value, score.better) == (50, 75, "lower")
    people = Presence(role="plain", detector="judge", labels=["church", "cat"]).score(build(images))
    assert (people.value, people.better) == (50, "higher")


def test_counts_name_a_label_that_the_detector_does_not_know():
    detectors = {"judge": Colours(), "clip": ColourClip()}
    wrong = LabelCounts(role="plain", detector="judge", labels=["chruch"])
    assert "labels: Unknown label of judge 'chruch'. Did you mean 'church'" in wrong.check(detectors)[0]
    assert (
        "detector: Unknown detector 'jugde'"
        in (LabelCounts(role="plain", detector="jugde", labels=["church"]).check(detectors)[0])
    )
    assert not LabelCounts(role="plain", detector="judge", labels=["church"]).check(detectors)


class NearClip(ColourClip):
    """To whom a house is more like a church than a cat is."""

    def text_features(self, texts):
        places = {"church": (1.0, 0.0, 0.0), "house": (0.8, 0.0, 0.6), "cat": (0.0, 1.0, 0.0)}
        return torch.tensor(
            [next((v for k, v in places.items() if k in text), (0.1, 0.2, 0.3)) for text in texts]
        )


def test_the_erosion_curve_goes_by_similarity_and_its_area_is_the_mean_along_it(build):
    images = {
        ("neighbour", "erased"): shown("house", "church", "church", "church"),
        ("neighbour", "original"): shown("house", "house", "house", "church"),
        ("unrelated", "erased"): shown("cat", "cat"),
        ("unrelated", "original"): shown("cat", "cat"),
    }
    evidence = build(
        images, {"neighbour": ["house"] * 4, "unrelated": ["cat", "cat"]}, detectors={"clip": NearClip()}
    )
    score = EROSION.score(evidence)
    curve = score.details["curve"]
    assert [name for name, _ in curve.rows] == ["cat", "house"]
    assert curve.column("similarity") == pytest.approx([0.0, 0.8])
    assert curve.column("retained") == pytest.approx([100, 100 / 3])
    assert (curve.column("erased"), curve.column("original")) == ([100, 25], [100, 75])
    assert score.value == pytest.approx((100 + 100 / 3) / 2)
    assert (score.unit, score.n, score.expected) == ("% retained", 6, 6)


def test_what_the_original_hardly_draws_is_on_no_erosion_curve(build):
    images = {
        (role, model): shown(*labels)
        for role, labels in {"neighbour": ["house", "cat", "cat"], "unrelated": ["cat", "cat"]}.items()
        for model in ("erased", "original")
    }
    shows = {"neighbour": ["house"] * 3, "unrelated": ["cat", "cat"]}
    score = EROSION.score(build(images, shows, detectors={"clip": NearClip()}))
    assert score.value is None
    assert "the original model draws 1 things that should stay, and a curve needs two" in score.warnings[0]


def test_tables_stand_in_the_results_as_their_type_says(build):
    from unlearn.store.layout import ScoreEntry
    from unlearn.store.validation import problems

    score = NEW.score(plain(build, ["church", "cat"], ["cat", "church"]))
    assert isinstance(score, DetailedScore)
    entry = score.to_json()
    assert list(problems(entry, ScoreEntry, "", strict=True)) == []
    assert entry["details"]["new"] == {
        "columns": ["index", "seed"], "rows": ["plain 0"], "values": [[0, 0]]
    }  # fmt: skip
    assert Table.of(("a",), [("x", (math.nan,))]).to_json()["values"] == [[None]]
    with pytest.raises(ValueError, match="a number for each column"):
        Table.of(("a", "b"), [("x", (1.0,))])
    assert "details.x" in next(problems(entry | {"details": {"x": 3}}, ScoreEntry, ""))


OTHERS = {
    "clip_e": ErasedCLIPScore(clip="clip", roles=["plain"]),
    "erasure_ratio": RATIO,
    "erosion": EROSION,
    "h_a": StyleGap(clip="clip", erased=["plain"], kept=["neighbour"]),
    "h_o": H_C,
    "label_counts": LabelCounts(role="plain", detector="judge", labels=["church"]),
    "new_failures": NEW,
    "presence": Presence(role="plain", detector="judge", labels=["cat"]),
    "thresholds": ThresholdCurve(role="plain", thresholds=[0.2, 0.8]),
}


def world(build, order=range(6)):
    """Six images of each role and model, in some order."""
    drawn = {
        ("plain", "original"): ["church"] * 5 + ["cat"],
        ("plain", "erased"): ["church", "cat", "cat", "house", "house", "church"],
        ("neighbour", "original"): ["house"] * 5 + ["cat"],
        ("neighbour", "erased"): ["house", "cat", "cat", "house", "house", "house"],
        ("unrelated", "original"): ["cat"] * 6,
        ("unrelated", "erased"): ["cat"] * 5 + ["house"],
    }
    shows = {"neighbour": ["house"] * 6, "unrelated": ["cat"] * 6}
    texts = {role: [f"a {role} {i // 2}" for i in order] for role in ("plain", "neighbour", "unrelated")}
    images = {key: [picture(labels[i], 0.05, i) for i in order] for key, labels in drawn.items()}
    return build(images, shows, texts, detectors={"clip": NearClip()})


@pytest.mark.parametrize("name", OTHERS)
def test_no_score_depends_on_the_order_of_the_images(build, name):
    straight, turned = (OTHERS[name].score(world(build, order)) for order in (range(6), [3, 0, 5, 1, 4, 2]))
    assert turned.value == pytest.approx(straight.value, rel=1e-9)
    assert (turned.interval is None) == (straight.interval is None)
    if straight.interval is not None:
        assert turned.interval == pytest.approx(straight.interval, rel=1e-9)
        assert straight.interval[0] <= straight.value <= straight.interval[1]


@pytest.mark.parametrize("name", OTHERS)
def test_every_score_needs_the_images_that_it_reads(build, name):
    metric, evidence = OTHERS[name], world(build)
    needed = set(metric.needs(evidence.concepts, ()))
    for request in set(evidence.images) - needed:
        del evidence.images[request]
    assert metric.score(evidence).value is not None


def test_every_protocol_of_the_catalogue_is_tested():
    own = {
        name: cls
        for name, cls in METRICS.items()
        if ".protocols." in cls.__module__
        and not cls.__module__.endswith("lpips")  # which test_lpips.py tests
    }
    assert {name: type(metric) for name, metric in OTHERS.items()} == own


@pytest.mark.parametrize("name", ["erasure_ratio", "new_failures", "label_counts", "thresholds", "h_o"])
def test_a_detector_that_fails_fails_the_run(build, name):
    class Broken(Colours):
        def scores(self, images):  # noqa: ARG002
            raise RuntimeError("out of order")

    evidence = world(build)
    evidence.detectors["judge"] = Broken()
    with pytest.raises(UnlearnError, match=r"eval.detectors.judge: failed on"):
        OTHERS[name].score(evidence)
