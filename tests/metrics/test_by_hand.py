"""Scores of small worlds, every number worked out by hand: which image, which prompt, which model."""

import math
from dataclasses import replace

import pytest
import torch
from colour_world import LABELS, Broken, ColourClip, Colours, concept, picture

from unlearn.catalogue import METRICS
from unlearn.concepts.concept import ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.errors import ConfigError, UnlearnError
from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.metric import pair
from unlearn.metrics.perceptual import ImageDistance
from unlearn.metrics.robustness import AttackSuccessRate, WorstCaseSuccessRate
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_interval

SHORT = {"c": "church", "k": "cat", "h": "house"}
NAN = math.nan
ATTACKED = ImageRequest("attack:x")


def shown(labels):
    """An image for each letter; ``?`` is one that breaks the detector."""
    return [torch.ones(3, 4, 4) if each == "?" else picture(SHORT[each]) for each in labels]


def world(build, sets, **options):
    images = {key: shown(labels) for key, labels in sets.items()}
    return build(images, failures=2, **{"detectors": {"judge": Broken()}, **options})


def plain(erased, original):
    return {("plain", "erased"): erased, ("plain", "original"): original}


def percent(outcomes, groups):
    """The interval of a rate."""
    return [100 * end for end in rate_interval(torch.tensor(outcomes, dtype=torch.double), list(groups))]


def rates(score):
    return score.value, score.original.value, score.difference.value


def counts(score):
    return score.n, score.expected, score.failed


def test_each_model_has_the_interval_of_its_own_images_grouped_by_prompt(build):
    """Two seeds a prompt; the second image of the erased and the last of the original break the detector."""
    texts = {"plain": ["a", "a", "b", "b", "c", "c", "d", "d"]}
    evidence = world(build, plain("c?hhkkch", "ccccchk?"), prompts=texts)
    score = DetectionRate(role="plain", known_from=50).score(evidence)
    assert counts(score) == (6, 8, 2)
    assert rates(score) == (pytest.approx(100 / 3), pytest.approx(200 / 3), pytest.approx(-100 / 3))
    assert score.interval == pytest.approx(percent([1, 0, 0, 0, 0, 1], "abbccd"))
    assert score.original.interval == pytest.approx(percent([1, 1, 1, 1, 0, 0], "abbccd"))
    low, high = score.difference.interval
    assert low < score.difference.value < high
    assert score.per_image[ImageRequest("plain", "erased")] == pytest.approx(
        (1, NAN, 0, 0, 0, 0, 1, 0), nan_ok=True
    )
    assert score.per_image[ImageRequest("plain", "original")] == pytest.approx(
        (1, 1, 1, 1, 1, 0, 0, NAN), nan_ok=True
    )


def test_the_difference_is_paired_within_prompts_however_the_images_lie(build):
    """Grouped with other prompts the same images would give another interval."""
    metric, texts = DetectionRate(role="plain", known_from=50), ["a", "a", "a", "b", "b", "c", "c", "d"]
    erased, original, order = "hhhcchhc", "cccccckk", [3, 7, 0, 5, 1, 4, 6, 2]

    def score(where, groups):
        sets = plain(*("".join(row[i] for i in where) for row in (erased, original)))
        return metric.score(world(build, sets, prompts={"plain": [groups[i] for i in where]}))

    straight, turned = score(range(8), texts), score(order, texts)
    assert turned.difference == straight.difference
    assert turned.interval == straight.interval
    apart = score(range(8), [*texts[1:], texts[0]])
    assert apart.difference.value == straight.difference.value
    assert apart.difference.interval != straight.difference.interval


def test_a_warning_comes_below_what_must_be_known_and_not_at_it(build):
    evidence = world(build, plain("hhhh", "chhh"))
    assert DetectionRate(role="plain", known_from=25.0).score(evidence).warnings == ()
    (said,) = DetectionRate(role="plain", known_from=25.1).score(evidence).warnings
    assert "shows the concept in only 25 % of the images (below 25.1 %)" in said


def test_a_detector_that_fails_takes_no_side_in_what_the_original_knows(build):
    evidence = world(build, plain("hhhh", "c?hh"))
    assert DetectionRate(role="plain", known_from=33).score(evidence).warnings == ()


def test_a_part_is_over_the_prompts_of_its_concepts(build):
    """Of church, house, church, house: each judged by its own label."""
    both = ConceptSet(erase={"church": concept(), "house": concept(labels=["house"])})
    metric = DetectionRate(role="plain", known_from=50)
    texts = {"plain": ["a", "b", "c", "d", "c", "f", "a", "h"]}
    evidence = world(build, plain("chhc?kch", "chchchch"), concepts=both, prompts=texts)
    score = metric.score(evidence)
    assert (rates(score)[:2], counts(score)) == ((pytest.approx(400 / 7), 100), (7, 8, 1))
    church, house = (metric.part(score, evidence, [name]) for name in both.erase)
    assert (rates(church), counts(church)) == (
        (pytest.approx(200 / 3), 100, pytest.approx(-100 / 3)),
        (3, 4, 1),
    )
    assert church.interval == pytest.approx(percent([1, 0, 1], "aca"))
    assert church.interval != pytest.approx(percent([1, 0, 1], "abc"))
    assert (church.unit, church.per_image) == ("%", {})
    assert (rates(house), counts(house)) == ((50, 100, -50), (4, 4, 0))
    assert house.interval == pytest.approx(percent([1, 0, 0, 1], "bdfh"))
    assert metric.part(score, evidence, ["church", "house"]).value == pytest.approx(400 / 7)
    assert metric.part(score, evidence, ["cat"]) is None
    assert metric.part(metric.undefined("%", "none"), evidence, ["church"]) is None


def test_accuracy_asks_each_image_for_what_its_own_prompt_names(build):
    """The third prompt names nothing; the fifth image of the original breaks the detector."""
    sets = {("neighbour", "erased"): "hkchc", ("neighbour", "original"): "kkch?"}
    evidence = world(
        build,
        sets,
        shows={"neighbour": ["house", "house", "", "cat", "church"]},
        prompts={"neighbour": ["a", "b", "a", "a", "c"]},
    )
    score = ConceptAccuracy(role="neighbour", clip="clip").score(evidence)
    assert (rates(score), counts(score)) == ((pytest.approx(100 / 3), 0, pytest.approx(100 / 3)), (3, 4, 1))
    assert score.interval == pytest.approx(percent([1, 0, 0], "aba"))
    assert score.original.interval == pytest.approx(percent([0, 0, 0], "aba"))
    erased, original = (score.per_image[request] for request in pair("neighbour"))
    assert erased == pytest.approx((1, 0, NAN, 0, 1), nan_ok=True)
    assert original == pytest.approx((0, 0, NAN, 0, NAN), nan_ok=True)


def test_accuracy_groups_what_was_asked_by_its_own_prompts(build):
    """Two seeds a prompt, alike in each; the first image asks for nothing."""
    sets = {("neighbour", "erased"): "khhkkhhkk", ("neighbour", "original"): "h" * 9}
    texts, asked = ["z", *"aabbccdd"], ["", *["house"] * 8]
    evidence = world(build, sets, shows={"neighbour": asked}, prompts={"neighbour": texts})
    score = ConceptAccuracy(role="neighbour", clip="clip").score(evidence)
    assert score.interval == pytest.approx(percent([1, 1, 0, 0, 1, 1, 0, 0], "aabbccdd"))
    assert score.interval != pytest.approx(percent([1, 1, 0, 0, 1, 1, 0, 0], "zaabbccd"))


def test_accuracy_is_undefined_where_no_prompt_asks_for_anything(build):
    sets = {("neighbour", model): "hk" for model in ("erased", "original")}
    score = ConceptAccuracy(role="neighbour", clip="clip").score(world(build, sets))
    assert (score.value, score.unit, score.warnings) == (
        None,
        "%",
        ("no prompt of the role 'neighbour' says what its image should show.",),
    )


def test_accuracy_of_two_concepts_asks_the_judge_of_each(build):
    class Blind(Colours):
        """Sees everything in everything, but knows of cats only."""

        def knows(self, label):
            return label == "cat"

        def decide(self, readout, label):  # noqa: ARG002
            return torch.ones(len(readout), dtype=torch.bool)

    both = ConceptSet(erase={"church": concept(), "house": concept(detector="blind")})
    sets = {("neighbour", model): "hhhh" for model in ("erased", "original")}
    asked = {"neighbour": ["house", "cat", "cat", "church"]}  # of church, house, church, house
    evidence = world(
        build, sets, concepts=both, shows=asked, detectors={"judge": Colours(), "blind": Blind()}
    )
    score = ConceptAccuracy(role="neighbour", clip="clip").score(evidence)
    assert score.per_image[ImageRequest("neighbour", "erased")] == (1, 1, 0, 0)


def test_under_attack_each_prompt_has_its_own_past(build):
    """Five prompts, four of them attacked: one shows as it is, one under attack, one breaks there."""
    sets = {**plain("hchhc", "ckkcc"), ("attack:x", "erased"): "hhc?"}
    evidence = world(build, sets, prompts={"plain": ["a", "b", "b", "a", "c"]})
    every, resisted = (AttackSuccessRate(attack="x", resisted=only).score(evidence) for only in (False, True))
    assert (rates(every), counts(every)) == (
        (pytest.approx(200 / 3), pytest.approx(100 / 3), pytest.approx(100 / 3)),
        (3, 4, 1),
    )
    assert every.interval == pytest.approx(percent([0, 1, 1], "abb"))
    assert every.original.interval == pytest.approx(percent([1, 0, 0], "abb"))
    assert (rates(resisted), counts(resisted)) == ((50, 50, 0), (2, 3, 1))
    assert resisted.interval == pytest.approx(percent([0, 1], "ab"))
    assert list(every.per_image) == list(resisted.per_image) == [ATTACKED]
    assert every.per_image[ATTACKED] == pytest.approx((0, 0, 1, NAN), nan_ok=True)


def test_resisted_prompts_keep_their_groups_and_their_original(build):
    """All but the second are resisted, two seeds of a prompt each; the original does not know c."""
    sets = {**plain("hchhhhhh", "ccchkccc"), ("attack:x", "erased"): "chchhhh"}
    evidence = world(build, sets, prompts={"plain": ["a", "b", "a", "c", "c", "d", "d", "e"]})
    score = AttackSuccessRate(attack="x", resisted=True).score(evidence)
    assert (score.value, score.original.value) == (pytest.approx(100 / 3), pytest.approx(200 / 3))
    assert counts(score) == (6, 6, 0)
    assert score.interval == pytest.approx(percent([1, 1, 0, 0, 0, 0], "aaccdd"))
    assert score.interval != pytest.approx(percent([1, 1, 0, 0, 0, 0], "bccdda"))
    assert score.original.interval == pytest.approx(percent([1, 1, 0, 0, 1, 1], "aaccdd"))


def test_nobody_knows_of_a_prompt_that_broke_the_detector_as_it_is(build):
    """Neither resisted nor brought back, whatever the attack shows."""
    evidence = world(build, {**plain("?hh", "ccc"), ("attack:x", "erased"): "chc"})
    every, resisted = (AttackSuccessRate(attack="x", resisted=only).score(evidence) for only in (False, True))
    assert (every.value, counts(every)) == (50, (2, 3, 1))
    assert (resisted.value, counts(resisted)) == (50, (2, 2, 0))


def test_the_worst_case_takes_a_prompt_by_whatever_brings_it_back(build):
    """Of five prompts all attacks tried the first four; of the third nobody knows under one attack."""
    sets = {**plain("chhhc", "cchhc"), ("attack:x", "erased"): "hh?h", ("attack:y", "erased"): "hcchh"}
    score = WorstCaseSuccessRate().score(world(build, sets, prompts={"plain": ["a", "a", "b", "c", "d"]}))
    assert (rates(score), counts(score)) == (
        (pytest.approx(200 / 3), pytest.approx(200 / 3), pytest.approx(0)),
        (3, 4, 1),
    )
    assert score.interval == pytest.approx(percent([1, 1, 0], "aac"))
    assert score.per_image == {}


def test_each_image_is_compared_with_its_own_prompt(build):
    """The clip's features are 3 times the mean colours, a text's are 1 where it names a label; both roles."""
    texts = {"neighbour": ["a cat", "a house", "a cat"], "unrelated": ["a church", "a dog"]}
    sets = {("neighbour", "erased"): "khh", ("unrelated", "erased"): "cc"}
    sets |= {("neighbour", "original"): "kkk", ("unrelated", "original"): "ch"}
    score = CLIPScore(clip="clip", roles=["neighbour", "unrelated"]).score(world(build, sets, prompts=texts))

    def cosine(letter, text):
        image = [0.8 if label == SHORT[letter] else 0.1 for label in LABELS]
        words = [(label in text) + 1e-3 for label in LABELS]
        dot = sum(a * b for a, b in zip(image, words, strict=True))
        return 100 * dot / math.hypot(*image) / math.hypot(*words)

    said = [*texts["neighbour"], *texts["unrelated"]]
    erased = [cosine(*each) for each in zip("khhcc", said, strict=True)]
    original = [cosine(*each) for each in zip("kkkch", said, strict=True)]
    found = [score.per_image[ImageRequest(role)] for role in texts]
    assert [*found[0], *found[1]] == pytest.approx(erased, abs=0.5)
    assert score.value == pytest.approx(sum(erased) / 5, abs=0.5)
    assert score.original.value == pytest.approx(sum(original) / 5, abs=0.5)
    assert score.difference.value == pytest.approx((sum(erased) - sum(original)) / 5, abs=0.5)
    values = torch.tensor([*found[0], *found[1]], dtype=torch.double)
    assert score.interval == pytest.approx(mean_interval(values, said, bounds=(-100, 100)))
    kept = [score.per_image[ImageRequest(role, "original")] for role in texts]
    own = torch.tensor([*kept[0], *kept[1]], dtype=torch.double)
    assert score.original.interval == pytest.approx(mean_interval(own, said, bounds=(-100, 100)))
    assert (score.unit, score.better, counts(score)) == ("100 cos", "higher", (5, 5, 0))


def test_each_image_is_compared_with_the_original_s_of_the_same_place(build):
    """0 where they are alike, else 1 - cos of colours (.8, .1, .1) in two orders: 1 - .17 / .66."""
    sets = {
        ("neighbour", "erased"): "khc", ("neighbour", "original"): "khh",
        ("unrelated", "erased"): "c", ("unrelated", "original"): "k",
    }  # fmt: skip
    score = ImageDistance(clip="clip", roles=["neighbour", "unrelated"]).score(world(build, sets))
    far = 1 - 0.17 / 0.66
    assert score.per_image[ImageRequest("neighbour")] == pytest.approx((0, 0, far), abs=0.01)
    assert score.per_image[ImageRequest("unrelated")] == pytest.approx((far,), abs=0.01)
    assert score.per_image[ImageRequest("neighbour")][:2] == (0, 0)
    assert (score.value, score.original.value) == (pytest.approx(far / 2, abs=0.01), 0)
    assert (score.unit, score.better, counts(score)) == ("1 - cos", "lower", (4, 4, 0))
    assert len(score.per_image) == 2


def test_a_role_without_prompts_adds_nothing(build):
    sets = {("neighbour", model): "k" for model in ("erased", "original")}
    sets |= {("unrelated", model): "" for model in ("erased", "original")}
    evidence = world(
        build, sets, prompts={"neighbour": ["a cat"]}, detectors={"judge": Colours(), "clip": ColourClip()}
    )
    for metric in (CLIPScore, ImageDistance):
        assert metric(clip="clip", roles=["neighbour", "unrelated"]).score(evidence).n == 1
        none = metric(clip="clip", roles=["unrelated"]).score(evidence)
        assert none.value is None
        assert none.warnings == ("there are no prompts of the roles unrelated.",)


def test_the_worst_case_is_for_the_concepts_of_the_plain_prompts(build):
    two = ConceptSet(erase={"church": concept(), "house": concept()})
    sets = {**plain("hh", "cc"), ("attack:x", "erased"): "hh", ("attack:y", "erased"): "hh"}
    evidence = world(build, sets, concepts=two)
    assert WorstCaseSuccessRate().score(evidence).value == 0
    strange = evidence.images[ImageRequest("attack:y")]
    object.__setattr__(strange, "prompts", replace(strange.prompts, concepts=("house", "church")))
    with pytest.raises(UnlearnError, match=r"attack:y: must be for the concepts of the first plain prompts"):
        WorstCaseSuccessRate().score(evidence)


def test_a_metric_of_one_attack_stands_for_itself_and_asks_for_the_images_of_that():
    one = AttackSuccessRate(attack="x", resisted=True)
    assert one.by_attack(["x", "y"]) == {"": one}
    assert one.needs(None, ["x", "y"]) == [*pair("plain"), ImageRequest("attack:x")]
    every = AttackSuccessRate()
    assert every.needs(None, ["x", "y"]) == [*pair("plain"), *map(ImageRequest, ("attack:x", "attack:y"))]
    assert every.needs(None, []) == []
    worst = WorstCaseSuccessRate()
    assert worst.needs(None, ["x"]) == [*pair("plain"), ImageRequest("attack:x")]
    assert set(every.idle()) == {"resisted"}
    assert (one.idle(), worst.idle()) == ({}, {})


@pytest.mark.parametrize(
    ("metric", "unit", "better"),
    [
        (DetectionRate(role="plain", known_from=50), "%", "lower"),
        (ConceptAccuracy(role="plain", clip="clip"), "%", "higher"),
        (CLIPScore(clip="clip", roles=["plain"]), "100 cos", "higher"),
        (ImageDistance(clip="clip", roles=["plain"]), "1 - cos", "lower"),
    ],
)
def test_what_is_undefined_is_so_in_the_metric_s_own_terms(build, metric, unit, better):
    evidence = world(build, plain("", ""))
    score = metric.score(evidence)
    assert (score.value, score.unit, score.better, score.version) == (None, unit, better, metric.version)
    assert (counts(score), score.interval, score.original, score.difference) == ((0, 0, 0), None, None, None)
    assert metric.part(score, evidence, ["church"]) is None
    assert metric.by_attack(["x"]) == {"": metric}


@pytest.mark.parametrize(
    "metric",
    [
        ConceptAccuracy(role="plain", clip="judge"),
        CLIPScore(clip="judge", roles=["plain"]),
        ImageDistance(clip="judge", roles=["plain"]),
    ],
)
def test_what_serves_as_no_clip_is_said_with_its_key(metric):
    networks = {"judge": Colours(), "eyes": ColourClip()}
    assert metric.check(networks) == ["clip: 'judge' does not serve here. Those that do: eyes."]
    assert replace(metric, clip="eyes").check(networks) == []


def test_similarity_needs_a_clip_that_reads_words(build):
    evidence = world(build, plain("c", "c"))
    with pytest.raises(ConfigError, match=r"eval.detectors.judge: is no CLIP, and a metric asks for one\."):
        CLIPScore(clip="judge", roles=["plain"]).score(evidence)


def test_who_changes_what_a_number_means_counts_its_version_up():
    found = {name: kind.version for name, kind in METRICS.items()}
    assert found == {**dict.fromkeys(METRICS, 1), "fid": 2, "kid": 2, "cmmd": 2}


def test_an_entry_says_all_of_a_score(build):
    score = DetectionRate(role="plain", known_from=50).score(world(build, plain("h?cc", "cccc")))
    entry = score.to_json()
    fields = ("value", "unit", "n", "expected", "failed", "better", "version")
    assert [entry[key] for key in fields] == [getattr(score, key) for key in fields]
    assert [entry[key] for key in fields] == [pytest.approx(200 / 3), "%", 3, 4, 1, "lower", 1]
    assert entry["interval"] == list(score.interval)
    for key in ("original", "difference"):
        one = getattr(score, key)
        assert (entry[key]["value"], entry[key]["interval"]) == (one.value, list(one.interval))
    nothing = DetectionRate(role="plain", known_from=50).score(world(build, plain("?", "?")))
    assert (nothing.value, counts(nothing), nothing.warnings) == (
        None,
        (0, 1, 0),
        ("no image could be scored.",),
    )
    assert nothing.to_json()["interval"] is None
    assert nothing.to_json()["original"] is None
