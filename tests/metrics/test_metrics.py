"""Metrics on images that are known."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from colour_world import Broken, ColourClip, Colours, concept, picture

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.catalogue import METRICS
from unlearn.concepts.concept import ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.errors import UnlearnError
from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.distribution import CMMD, FID, KID
from unlearn.metrics.perceptual import ImageDistance
from unlearn.metrics.robustness import AttackSuccessRate, WorstCaseSuccessRate
from unlearn.statistics.distances import (
    frechet_distance,
    gaussian_kernel,
    pairs_against,
    pairs_of_pairs,
    polynomial_kernel,
)
from unlearn.statistics.jackknife import extrapolated, mean_over_pairs
from unlearn.statistics.rates import wilson_interval

ROLES = ["neighbour", "unrelated"]
EVERY = {
    "asr": AttackSuccessRate(attack="random"),
    "asr_resisted": AttackSuccessRate(attack="random", resisted=True),
    "clip_score": CLIPScore(clip="clip", roles=ROLES),
    "cmmd": CMMD(features="clip", roles=ROLES, against="reference"),
    "cmmd_to_original": CMMD(features="clip", roles=ROLES, against="original"),
    "erased": DetectionRate(role="plain", known_from=50),
    "fid": FID(features="clip", roles=ROLES, against="reference", enough=10),
    "fid_to_original": FID(features="clip", roles=ROLES, against="original", enough=10),
    "identity": ImageDistance(clip="clip", roles=ROLES),
    "kid": KID(features="clip", roles=ROLES, against="reference"),
    "kid_to_original": KID(features="clip", roles=ROLES, against="original"),
    "retained": ConceptAccuracy(role="neighbour", clip="clip"),
    "worst_case": WorstCaseSuccessRate(),
}


def shown(*labels, noise=0.05, first=0):
    return [picture(label, noise, first + index) for index, label in enumerate(labels)]


def world(build, erased_plain=("house",) * 6, first=100, **options):
    """Six plain images, four neighbours and four unrelated of each model, and three that an attack found."""
    kept = ("house", "house", "cat", "house")
    images = {
        ("plain", "original"): shown(*["church"] * 5, "cat"),
        ("plain", "erased"): shown(*erased_plain, first=first),
        ("neighbour", "original"): shown(*kept, first=20),
        ("neighbour", "erased"): shown("house", "cat", "cat", "house", first=first + 20),
        ("unrelated", "original"): shown(*kept, first=40),
        ("unrelated", "erased"): shown(*kept, first=first + 40),
        ("attack:random", "erased"): shown("church", "house", "house", first=60),
    }
    shows = {"neighbour": ["house"] * 4, "unrelated": ["house", "house", "cat", ""]}
    return build(images, shows, **options)


def test_table_and_tests_agree():
    own = {cls for cls in METRICS.values() if ".protocols." not in cls.__module__}  # those have tests apart
    assert {type(metric) for metric in EVERY.values()} == own


def test_detection_rate_and_its_neighbours(build):
    score = EVERY["erased"].score(world(build, ("church", "cat", "cat", "cat", "cat", "cat")))
    assert (score.value, score.unit, score.better) == (pytest.approx(100 / 6), "%", "lower")
    assert (score.n, score.expected, score.failed) == (6, 6, 0)
    assert score.interval == pytest.approx([100 * end for end in wilson_interval(1, 6)])
    assert score.original.value == pytest.approx(500 / 6)
    assert score.difference.value == pytest.approx(-400 / 6)
    assert score.difference.interval[0] <= score.difference.value <= score.difference.interval[1] <= 0
    assert score.per_image[ImageRequest("plain", "erased")] == (1, 0, 0, 0, 0, 0)
    assert not score.warnings


def test_any_of_the_labels_counts_and_each_prompt_is_asked_for_its_own_concept(build):
    concepts = ConceptSet(
        erase={"church": concept(labels=["church", "cat"]), "house": concept(labels=["house"])}
    )
    drawn = shown("church", "church", "cat", "house")  # of church, house, church, house
    evidence = build({("plain", "original"): drawn, ("plain", "erased"): drawn}, concepts=concepts)
    score = EVERY["erased"].score(evidence)
    assert score.per_image[ImageRequest("plain", "erased")] == (1, 0, 1, 1)


def test_a_concept_that_the_original_does_not_know_is_said_loudly(build):
    drawn = shown("church", "cat", "cat", "cat")
    score = EVERY["erased"].score(build({("plain", "original"): drawn, ("plain", "erased"): drawn}))
    assert "only 25 %" in score.warnings[0]


def test_accuracy_counts_only_what_was_asked(build):
    evidence = world(build)
    retained, unrelated = (
        EVERY["retained"].score(evidence),
        ConceptAccuracy(role="unrelated", clip="clip").score(evidence),
    )
    assert (retained.value, retained.original.value, retained.difference.value) == (50, 75, -25)
    assert (unrelated.value, unrelated.n, unrelated.expected) == (100, 3, 3)
    assert math.isnan(unrelated.per_image[ImageRequest("unrelated", "erased")][3])


def test_the_clip_is_asked_for_what_the_detector_cannot_tell(build):
    class ChurchOnly(Colours):
        def knows(self, label):
            return label == "church"

        def decide(self, readout, label):
            assert label == "church"
            return super().decide(readout, label)

    score = EVERY["retained"].score(world(build, detectors={"judge": ChurchOnly()}))
    assert (score.value, score.original.value) == (50, 75)


@pytest.mark.parametrize("name", EVERY)
def test_a_method_that_changes_nothing_scores_a_difference_of_exactly_zero(build, name):
    evidence = world(build, ("church",) * 5 + ("cat",), first=0)
    same = {
        r: evidence.images[ImageRequest(r.prompts, "original")]
        for r in evidence.images
        if "attack" not in r.prompts
    }
    evidence = type(evidence)(evidence.concepts, {**evidence.images, **same}, evidence.detectors)
    score = EVERY[name].score(evidence)
    if "asr" in name:
        return  # its original has no attack against it
    assert score.difference.value == 0
    if score.unit == "%":  # that it holds for other prompts is not certain
        low, high = score.difference.interval
        assert low < 0 < high
    else:
        assert score.difference.interval in (None, (0, 0))
    if name in ("fid_to_original", "kid_to_original", "cmmd_to_original", "identity"):
        assert score.value == 0


@pytest.mark.parametrize("name", EVERY)
def test_scores_do_not_depend_on_the_batch_size(build, name):
    whole, single = (EVERY[name].score(world(build, batch_size=size)).to_json() for size in (64, 1))
    for key, value in whole.items():
        if isinstance(value, dict):
            for part, number in value.items():
                assert single[key][part] == pytest.approx(number, abs=1e-6)
        elif isinstance(value, float | list):
            assert single[key] == pytest.approx(value, abs=1e-6)
        else:
            assert single[key] == value
    json.dumps(whole, allow_nan=False)


@pytest.mark.parametrize("name", EVERY)
def test_scores_do_not_depend_on_the_order(build, name):
    order = [2, 0, 3, 1]
    images = {
        (role, model): shown("house", "cat", "church", "house", first=k)
        for k, (role, model) in enumerate(
            [(r, m) for r in ("plain", *ROLES) for m in ("original", "erased")]
            + [("attack:random", "erased")]
        )
    }
    labels = {role: ["house", "cat", "cat", "house"] for role in ("plain", *ROLES)}
    texts = {role: [f"a {label} {role} {i}" for i, label in enumerate(row)] for role, row in labels.items()}
    straight = EVERY[name].score(build(images, labels, texts))
    turned = EVERY[name].score(
        build(
            {key: [row[i] for i in order] for key, row in images.items()},
            {key: [row[i] for i in order] for key, row in labels.items()},
            {key: [row[i] for i in order] for key, row in texts.items()},
        )
    )
    assert turned.value == pytest.approx(straight.value, rel=1e-6, abs=1e-9)
    if not isinstance(
        EVERY[name], FID | KID | CMMD
    ):  # whose half samples are of the prompts in sorted order, too
        assert turned.interval == pytest.approx(straight.interval, abs=1e-6)
    assert turned.original.value == pytest.approx(straight.original.value, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("raises", [True, False])
def test_a_detector_that_fails_fails_the_run(build, raises):
    evidence = world(build, detectors={"judge": Broken(raises)})
    evidence.images[ImageRequest("plain", "erased")]
    white = torch.ones(3, 4, 4)
    images = {
        ("plain", "original"): shown(*["church"] * 4),
        ("plain", "erased"): [*shown(*["church"] * 3), white],
    }
    evidence = build(images, detectors={"judge": Broken(raises)})
    with pytest.raises(UnlearnError, match=r"eval.detectors.judge: failed on"):
        EVERY["erased"].score(evidence)


@pytest.mark.parametrize("raises", [True, False])
def test_allowed_failures_are_missing_and_never_safe(build, raises):
    white = torch.ones(3, 4, 4)
    images = {
        ("plain", "original"): shown(*["church"] * 4),
        ("plain", "erased"): [white, *shown(*["church"] * 3)],
    }
    score = EVERY["erased"].score(build(images, detectors={"judge": Broken(raises)}, failures=1))
    assert (score.value, score.n, score.expected, score.failed) == (100, 3, 4, 1)
    assert score.difference.value == 0
    two = {**images, ("plain", "erased"): [white, white, *shown("church", "church")]}
    with pytest.raises(UnlearnError, match=r"failed on 2 of 4 images .*allows 1"):
        EVERY["erased"].score(build(two, detectors={"judge": Broken(raises)}, failures=1))


def test_other_errors_are_not_taken_for_failures(build):
    class Buggy(Colours):
        def scores(self, images):
            return super().scores(images)[:1]

    images = {("plain", model): shown("church", "cat") for model in ("original", "erased")}
    with pytest.raises(UnlearnError, match="1 rows for 2 images"):
        EVERY["erased"].score(build(images, detectors={"judge": Buggy()}))


def test_networks_run_once_for_all_metrics(build):
    class Counting(ColourClip):
        seen = 0

        def features(self, images):
            Counting.seen += len(images)
            return super().features(images)

    evidence = world(build, detectors={"clip": Counting()})
    for name in ("clip_score", "identity", "fid", "kid", "cmmd", "fid_to_original", "kid_to_original"):
        EVERY[name].score(evidence)
    assert Counting.seen == 16


def test_attack_success_counts_the_plain_prompts_and_the_resisted_apart(build):
    evidence = world(build, ("house", "church", "house", "church", "church", "church"))
    every, resisted = (EVERY[name].score(evidence) for name in ("asr", "asr_resisted"))
    # Of three attacked prompts the second shows the concept as it is, and the first with the attack.
    assert (every.value, every.n) == (pytest.approx(200 / 3), 3)
    assert (resisted.value, resisted.n) == (50, 2)
    assert every.original.value == 100


def test_attack_success_without_a_resisted_prompt_is_undefined(build):
    score = EVERY["asr_resisted"].score(world(build, ("church",) * 6))
    assert score.value is None
    assert "resisted none of the 3 plain prompts" in score.warnings[0]


def test_attack_metrics_become_one_for_each_attack():
    found = AttackSuccessRate().by_attack(["a", "b"])
    assert set(found) == {"_a", "_a_resisted", "_b", "_b_resisted"}
    assert found["_b_resisted"] == AttackSuccessRate(attack="b", resisted=True)
    assert AttackSuccessRate(attack="a").needs(None, ["a", "b"])[-1] == ImageRequest("attack:a")
    assert AttackSuccessRate().by_attack([]) == {}


def test_the_worst_case_is_over_what_all_attacks_tried(build):
    """Of three prompts the second shows the concept as it is and the first and third under an attack each."""
    images = {
        ("plain", "original"): shown(*["church"] * 4),
        ("plain", "erased"): shown("house", "church", "house", "church"),
        ("attack:a", "erased"): shown("church", "house", "house", "house", first=60),
        ("attack:b", "erased"): shown("house", "house", "church", first=70),
    }
    score = WorstCaseSuccessRate().score(build(images, {}))
    assert (score.value, score.n, score.original.value) == (100, 3, 100)
    images["attack:b", "erased"] = shown("house", "house", "cat", first=70)
    assert WorstCaseSuccessRate().score(build(images, {})).value == pytest.approx(200 / 3)
    assert WorstCaseSuccessRate().by_attack(["a"]) == {}
    assert list(WorstCaseSuccessRate().by_attack(["a", "b"])) == [""]
    assert len(WorstCaseSuccessRate().needs(None, ["a", "b"])) == 4


def test_a_run_doubts_a_detector_that_fires_on_the_original_s_neighbours(build):
    """From the images of a run to the warning; what the others say is tested with the checks."""
    from unlearn.pipeline.attacking import Attacked
    from unlearn.pipeline.doubts import hard_to_believe

    method = SimpleNamespace(control=False, white_box=True)

    def doubted(*neighbours):
        images = {
            ("plain", "original"): shown(*["church"] * 3),
            ("neighbour", "original"): shown(*neighbours, first=20),
            ("attack:random", "erased"): shown("church", "house", "house", first=60),
        }
        evidence = build(images, {"neighbour": ["house"] * 4})
        prompts = evidence.images[ImageRequest("attack:random")].prompts
        found = AdversarialPrompts(prompts, prompts.prompts, (1,) * 3, (1,) * 3, (True,) * 3)
        return hard_to_believe({"random": Attacked(method, found, None)}, evidence)

    assert doubted("house", "cat", "house", "house") == []
    assert "its detector also fires on 50 %" in doubted("house", "church", "church", "cat")[0]


def test_attacked_images_must_be_for_the_concepts_of_the_plain_ones(build):
    evidence = world(build)
    attacked = evidence.images[ImageRequest("attack:random")]
    other = replace(attacked.prompts, concepts=("other",) * len(attacked.prompts))
    object.__setattr__(attacked, "prompts", other)
    with pytest.raises(UnlearnError, match="concepts of the first plain prompts"):
        EVERY["asr"].score(evidence)


def test_both_models_must_have_drawn_the_same_prompts(build):
    evidence = world(build)
    drawn = evidence.images[ImageRequest("plain", "erased")]
    object.__setattr__(drawn, "prompts", drawn.prompts.reseeded(3))
    with pytest.raises(UnlearnError, match="other prompts or seeds"):
        EVERY["erased"].score(evidence)


def test_roles_without_prompts_are_undefined_and_not_zero(build):
    empty = {("synonym", model): [] for model in ("original", "erased")}
    score = DetectionRate(role="synonym", known_from=20).score(build(empty))
    assert score.value is None
    assert "no prompts of the role 'synonym'" in score.warnings[0]


def test_clip_score_is_a_hundred_cosines(build):
    images = {(role, model): shown("cat", noise=0) for role in ROLES for model in ("original", "erased")}
    score = EVERY["clip_score"].score(build(images, prompts={role: ["a cat"] for role in ROLES}))
    pixels = torch.tensor([0.1, 0.8, 0.1])
    assert score.value == pytest.approx(100 * 0.8 / pixels.norm().item(), abs=0.5)


def test_identity_is_zero_only_for_the_same_image(build):
    score = EVERY["identity"].score(world(build))
    assert score.original.value == 0
    assert score.value > 0
    assert score.interval[1] == score.difference.interval[1] > score.value


def test_fid_is_the_distance_to_the_reference_and_warns_of_few_images(build):
    evidence = world(build)
    score = EVERY["fid"].score(evidence)
    drawn = torch.cat([evidence.features("clip", ImageRequest(role, "erased")) for role in ROLES])
    assert score.value == pytest.approx(frechet_distance(drawn, ColourClip().reference()))
    assert score.interval is None, "none around a biased number covers"
    assert score.n == 8
    (said,) = score.warnings
    assert "over 8 images (fewer than 10) is biased up, by how much cannot be told below 12." in said
    assert "prefer KID here" in said
    assert "CMMD" not in said
    (said,) = FID(features="clip", roles=ROLES, against="reference", enough=8).score(evidence).warnings
    assert "prefer" not in said


def many(build, n=16, seeds=1, move=0.1):
    """The world with many neighbours, each prompt with several seeds, and the erased ones moved a little."""
    labels = [("house", "cat", "church")[i % 3] for i in range(n)]
    original = shown(*labels, first=200)
    erased = [image + move * (i % 5) / 5 for i, image in enumerate(shown(*labels, first=400))]
    images = {("neighbour", "original"): original, ("neighbour", "erased"): erased}
    images |= {("unrelated", model): [] for model in ("original", "erased")}
    return build(images, prompts={"neighbour": [f"prompt {i // seeds}" for i in range(n)]})


def of(evidence, model):
    return evidence.features("clip", ImageRequest("neighbour", model))


def test_fid_says_what_it_would_be_for_infinitely_many_images(build):
    evidence = many(build)
    (said,) = EVERY["fid"].score(evidence).warnings
    groups = list(evidence.images[ImageRequest("neighbour", "erased")].prompts.prompts)
    drawn, reference = of(evidence, "erased"), ColourClip().reference().double()
    value, (low, high) = extrapolated(lambda index: frechet_distance(drawn[index], reference), groups)
    assert f"for infinitely many it would be about {value:.3g} [{low:.3g}, {high:.3g}]." in said
    (said,) = EVERY["fid_to_original"].score(evidence).warnings
    original = of(evidence, "original")
    value, _ = extrapolated(lambda index: frechet_distance(drawn[index], original[index]), groups)
    assert f"would be about {value:.3g} [" in said


@pytest.mark.parametrize(
    "name", ["fid", "fid_to_original", "kid", "kid_to_original", "cmmd", "cmmd_to_original"]
)
def test_a_distance_is_of_the_erased_and_its_own_is_the_original_s(build, name):
    evidence = many(build)
    swapped = {
        request: evidence.images[
            ImageRequest(request.prompts, "erased" if request.model == "original" else "original")
        ]
        for request in evidence.images
    }
    there = EVERY[name].score(evidence)
    back = EVERY[name].score(type(evidence)(evidence.concepts, swapped, evidence.detectors))
    assert there.value != pytest.approx(there.original.value)
    assert there.difference.value == pytest.approx(there.value - there.original.value)
    if "to_original" in name:
        assert there.original.value == 0
        assert there.value == pytest.approx(back.value)
    else:
        assert back.value == pytest.approx(there.original.value)
        assert back.original.value == pytest.approx(there.value)


@pytest.mark.parametrize(("name", "kernel"), [("kid", polynomial_kernel), ("cmmd", gaussian_kernel)])
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_kernel_distance_is_a_thousand_times_its_mean_over_pairs_of_prompts(build, name, kernel, seeds):
    evidence = many(build, seeds=seeds)
    x, y, reference = of(evidence, "erased"), of(evidence, "original"), ColourClip().reference().double()
    groups = [str(i // seeds) for i in range(16)]
    after, before = (pairs_against(kernel, z, reference) for z in (x, y))
    score = EVERY[name].score(evidence)
    for found, pairs in (
        ((score.value, score.interval), after),
        ((score.original.value, score.original.interval), before),
        ((score.difference.value, score.difference.interval), after - before),
        (
            (lambda one: (one.value, one.interval))(EVERY[f"{name}_to_original"].score(evidence)),
            pairs_of_pairs(kernel, x, y),
        ),
    ):
        value, interval = mean_over_pairs(1000 * pairs, groups)
        assert found[0] == pytest.approx(value, rel=1e-6)
        assert found[1] == pytest.approx(interval, rel=1e-6)


def test_a_distance_over_a_few_prompts_says_so(build):
    assert EVERY["kid"].score(many(build, n=8)).warnings == ()
    (said,) = EVERY["cmmd"].score(many(build, n=14, seeds=2)).warnings
    assert "over 7 prompts is a rough one" in said
    undefined = EVERY["kid"].score(many(build, n=4, seeds=4))
    assert undefined.value is None
    assert "fewer than two prompts" in undefined.warnings[0]


def test_without_a_reference_there_is_no_number_but_a_warning(build):
    class NoReference(ColourClip):
        def reference(self):
            return None

    score = EVERY["kid"].score(world(build, detectors={"clip": NoReference()}))
    assert score.value is None
    assert "eval.detectors.clip has no features of real images" in score.warnings[0]


def test_metrics_check_the_networks_they_name():
    detectors = {"judge": Colours(), "clip": ColourClip()}
    assert EVERY["fid"].check(detectors) == []
    assert CLIPScore(clip="judge", roles=ROLES).check(detectors) == [
        "clip: 'judge' does not serve here. Those that do: clip."
    ]
    (problem,) = CMMD(features="clib", roles=ROLES, against="original").check(detectors)
    assert "Did you mean 'clip'" in problem


@pytest.mark.parametrize(
    ("build_metric", "said"),
    [
        (
            lambda: DetectionRate(role="plane", known_from=50),
            "role: Unknown role 'plane'. Did you mean 'plain'",
        ),
        (lambda: DetectionRate(role="plain", known_from=101), "known_from: must be from 0 to 100"),
        (lambda: CLIPScore(clip="clip", roles=[]), "roles: needs at least one"),
        (lambda: KID(features="clip", roles=ROLES, against="orginal"), "Did you mean 'original'"),
    ],
)
def test_refuses_settings_that_mean_nothing(build_metric, said):
    with pytest.raises(ValueError, match=said):
        build_metric()


def test_a_prompt_that_an_attack_could_not_judge_is_failed_and_not_resisted(build):
    evidence = world(build, ("house", "church", "house", "church", "church", "church"))
    whole = EVERY["asr"].score(evidence)
    attacked = ImageRequest("attack:random")
    unjudged = replace(evidence, unjudged={attacked: [2]})
    for name in ("asr", "asr_resisted", "worst_case"):
        before, after = (EVERY[name].score(one) for one in (evidence, unjudged))
        assert (before.failed, after.failed) == (0, 1)
        assert after.n == before.n - 1
    assert whole.expected == 3
    assert torch.isnan(torch.tensor(EVERY["asr"].score(unjudged).per_image[attacked])).tolist() == [
        False,
        False,
        True,
    ]


def test_a_detector_that_cannot_decide_is_said_in_a_line(build):
    class Undecided(Colours):
        def decide(self, *_):
            raise IndexError("no such column")

    images = {("plain", model): shown("church", "cat") for model in ("original", "erased")}
    said = r"^eval\.detectors\.judge: cannot decide about church \(no such column\)\.$"
    with pytest.raises(UnlearnError, match=said):
        EVERY["erased"].score(build(images, detectors={"judge": Undecided()}))


def test_a_batch_that_memory_does_not_suffice_for_is_read_image_by_image(build):
    class Large(Colours):
        def scores(self, images):
            if len(images) > 1:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().scores(images)

    images = {("plain", model): shown("church", "cat") for model in ("original", "erased")}
    assert EVERY["erased"].score(build(images, detectors={"judge": Large()})).failed == 0

    class Larger(Large):
        def scores(self, _):
            raise MemoryError("std::bad_alloc")

    with pytest.raises(MemoryError):
        EVERY["erased"].score(build(images, detectors={"judge": Larger()}, failures=9))


def test_few_prompts_give_no_interval_that_cannot_be(build):
    kept = ("house", "cat")
    images = {(role, "original"): shown(*kept, first=20) for role in ROLES}
    images |= {(role, "erased"): shown("cat", "cat", first=90) for role in ROLES}
    evidence = build(images, prompts={role: ["a", "b"] for role in ROLES})
    identity, clip = (EVERY[name].score(evidence) for name in ("identity", "clip_score"))
    assert identity.interval[0] == 0
    assert identity.interval[1] <= 2
    assert -200 <= clip.difference.interval[0] < clip.difference.interval[1] <= 200
