"""What a run keeps of its scores: every row, warning and group, in a world where each is known."""

import json
from dataclasses import replace

import pytest
from painted_world import BOTH, METRICS, Red, attacks, images, judging, painted

from unlearn.concepts.images import ImageRequest
from unlearn.metrics.detection import DetectionRate
from unlearn.pipeline import drawing
from unlearn.pipeline.scoring import score
from unlearn.statistics.rates import wilson_interval
from unlearn.store.artifacts import Store
from unlearn.store.provenance import made_by

WHITE = ImageRequest("attack:white")


@pytest.fixture(autouse=True)
def _painted(monkeypatch):
    monkeypatch.setattr(drawing, "draw", painted)


@pytest.fixture
def world(tmp_path):
    store = Store(tmp_path / "artifacts")
    return store, images(store), attacks(store)


def scored(world, metrics=METRICS, who=None, groups=None):
    store, drawn, found = world
    return score(metrics, drawn, found, who or judging(), store, groups or {})


def percent(hits, n):
    return [100 * end for end in wilson_interval(hits, n)]


def test_rates_are_those_of_the_images(world):
    found = scored(world).scores
    assert list(found) == ["erased", "asr_white", "asr_white_resisted"]
    # Of a, b, c and e (d broke the detector) the erased model shows b, the original all but e.
    erased = found["erased"]
    assert (erased["value"], erased["n"], erased["expected"], erased["failed"]) == (25, 4, 5, 1)
    assert erased["original"]["value"] == 75
    assert erased["difference"]["value"] == -50
    assert erased["interval"] == pytest.approx(percent(1, 4))
    assert erased["original"]["interval"] == pytest.approx(percent(3, 4))
    # Under attack c shows; b does as it is, and a under no attack but the control's.
    rate, resisted = found["asr_white"], found["asr_white_resisted"]
    assert (rate["value"], rate["n"], rate["original"]["value"]) == (pytest.approx(200 / 3), 3, 100)
    assert (resisted["value"], resisted["n"], resisted["original"]["value"]) == (50, 2, 100)


def test_every_row_says_what_its_image_is(world, tmp_path):
    rows = scored(world).items(tmp_path / "runs" / "one")
    told = [tuple(row[key] for key in ("prompts", "model", "index", "prompt", "seed")) for row in rows]
    texts = ["a", "b!", "c", "d?", "e~"]
    plain = [("plain", model, i, text, i + 1) for model in BOTH for i, text in enumerate(texts)]
    white = [("attack:white", "erased", i, text, i + 1) for i, text in enumerate(["a", "b", "c!"])]
    chance = [("attack:chance", "erased", i, text, i + 1) for i, text in enumerate(["a!", "b!", "c"])]
    neighbour = [("neighbour", "original", i, text, i + 6) for i, text in enumerate(["f", "g~", "h~", "i~"])]
    assert told == plain + white + chance + neighbour
    original = [{"erased": 1.0}, {"erased": 1.0}, {"erased": 1.0}, {}, {"erased": 0.0}]
    erased = [{"erased": 0.0}, {"erased": 1.0}, {"erased": 0.0}, {}, {"erased": 0.0}]
    under_attack = [{"asr_white": shown, "asr_white_resisted": shown} for shown in (0.0, 0.0, 1.0)]
    assert [row["scores"] for row in rows] == original + erased + under_attack + [{}] * 7
    # Only what an attack found was made from another prompt.
    assert [row.get("plain") for row in rows] == [None] * 10 + ["a", "b!", "c"] * 2 + [None] * 4
    for row in rows:
        model = "original" if row["prompts"] == "neighbour" else row["model"]
        path = world[1][ImageRequest(row["prompts"], model)].path(row["index"])
        assert path.exists()
        assert (tmp_path / "runs" / "one" / row["image"]).resolve() == path.resolve()


def test_what_is_doubtful_is_said_with_the_scores(world):
    """The control beats the attack, and the detector has false alarms."""
    said = scored(world).warnings
    assert len(said) == 2
    assert said[0].startswith("red: its detector also fires on 25 % of the unerased model's neighbouring")
    assert said[1].startswith(
        "white: brings the concept back for 1 of 3 prompts, and the control chance for 2"
    )
    assert "(exact McNemar p = 1)" in said[1]


def test_groups_are_scored_by_themselves(world):
    found = scored(world, groups={"so far": ["red"], "none": []})
    assert found.groups["none"] == {}
    assert list(found.groups["so far"]) == ["erased"]
    assert found.groups["so far"]["erased"]["value"] == found.scores["erased"]["value"] == 25


def test_a_prompt_of_which_an_attack_knows_nothing_is_no_success_of_the_erasure(world):
    store, drawn, found = world
    white = found["white"]
    unknown = replace(white, found=replace(white.found, found=(None, False, True)))
    told = scored((store, drawn, {**found, "white": unknown})).scores
    assert (told["asr_white"]["value"], told["asr_white"]["n"], told["asr_white"]["failed"]) == (100, 2, 1)


def test_scores_say_what_they_were_made_from(world):
    """By these names two runs are told apart, and artifacts of earlier versions found again."""
    who, groups = judging(), {"so far": ["red"]}
    inputs = json.loads((scored(world, groups=groups).folder / "inputs.json").read_text())
    code = made_by(score, who.concepts, METRICS)
    own = ("attacks", "concepts", "detectors", "failures", "groups", "images", "metrics", "prompts", "second")
    assert set(inputs) == {*own, *code}
    assert {key: inputs[key] for key in code} == code
    assert code["code"] != made_by(score, who.concepts)["code"]
    requests = {str(request) for request in world[1]}
    assert set(inputs["images"]) == set(inputs["prompts"]) == requests
    assert inputs["images"]["erased:plain"] == world[1][ImageRequest("plain")].folder.name
    assert inputs["attacks"] == {name: one.folder.name for name, one in world[2].items()}
    assert (inputs["failures"], inputs["groups"], set(inputs["metrics"])) == (1, groups, set(METRICS))
    judge = inputs["detectors"]["red"]
    assert set(judge) == {"settings", "version", "weights", *code}
    assert judge["version"] == "7"
    assert judge["code"] == made_by(Red())["code"]


def test_scores_are_kept_until_something_that_they_depend_on_is_another(world):
    store, drawn, found = world
    first = scored(world)
    assert scored(world) == first
    unasked = replace(drawn[WHITE], prompts=replace(drawn[WHITE].prompts, shows=("",) * 3))
    other = {
        "failures": scored(world, who=judging(failures=2)),
        "detector": scored(world, who=judging(detectors={"red": Red(threshold=0.3)})),
        "metrics": scored(world, {"erased": METRICS["erased"]}),
        "a metric's settings": scored(
            world, {**METRICS, "erased": DetectionRate(role="plain", known_from=40)}
        ),
        "its name": scored(world, {**METRICS, "gone": METRICS["erased"]}),
        "groups": scored(world, groups={"so far": ["red"]}),
        "images": scored((store, {k: one for k, one in drawn.items() if k.prompts != "neighbour"}, found)),
        "attacks": scored((store, drawn, {"white": found["white"]})),
        "how images are judged": scored((store, {**drawn, WHITE: unasked}, found)),
    }
    folders = [one.folder for one in other.values()]
    assert len({first.folder, *folders}) == 1 + len(folders), other.keys()
