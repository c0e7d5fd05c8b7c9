"""Drawing once and scoring many."""

import json
from contextlib import contextmanager

import pytest
import torch

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target
from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import Detector
from unlearn.errors import UnlearnError
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.metric import Evidence
from unlearn.metrics.needs import expanded, requests
from unlearn.metrics.robustness import AttackSuccessRate
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler
from unlearn.pipeline import evaluation
from unlearn.store.artifacts import Store

SAMPLER = Sampler(scheduler="ddim", steps=2, guidance=1.0, resolution=8, batch_size=2)
PROMPTS = PromptSet("plain", ("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5), ("red",) * 5, ("red",) * 5)
SOURCES = {"original": {"model": 1}, "erased": {"model": 1, "method": "x"}}
CHANGED = Erasure(weights={"unet.x": torch.zeros(1)})


class Model:
    """Draws noise from the seed, darker when erased; stops after ``limit`` batches."""

    def __init__(self, limit=None):
        self.drawn, self.limit, self.darker = 0, limit, 1.0

    @contextmanager
    def erased(self, erasure):
        self.darker = 0.5 if erasure.weights else 1.0
        yield self
        self.darker = 1.0


@pytest.fixture(autouse=True)
def draw(monkeypatch):
    def fake(model, prompts, seeds, sampler, guard=None, start=None):  # noqa: ARG001
        for start in range(0, len(prompts), sampler.batch_size):
            if model.limit is not None and model.drawn >= model.limit:
                raise KeyboardInterrupt
            batch = seeds[start : start + sampler.batch_size]
            model.drawn += len(batch)
            noise = [torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in batch]
            yield torch.stack(noise) * model.darker

    monkeypatch.setattr(evaluation, "draw", fake)


def generate(store, model, request=ImageRequest("plain"), erasure=CHANGED, prompts=PROMPTS, sampler=SAMPLER):  # noqa: B008
    return evaluation.generate(request, prompts, lambda: model, erasure, sampler, store, SOURCES)


def pixels(images):
    return torch.cat(list(images.batches(3)))


def test_draws_in_order_and_only_once(tmp_path):
    model = Model()
    images = generate(Store(tmp_path), model)
    expected = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.5
    torch.testing.assert_close(pixels(images)[2], expected, rtol=0, atol=0.5 / 255 + 1e-6)
    again = generate(Store(tmp_path), None)
    assert again.folder == images.folder
    assert model.drawn == 5


def test_methods_share_the_originals_images(tmp_path):
    model, store = Model(), Store(tmp_path)
    original = generate(store, model, ImageRequest("plain", "original"))
    other = Erasure(weights={"unet.y": torch.zeros(1)})
    assert generate(store, model, ImageRequest("plain", "original"), other).folder == original.folder
    assert generate(store, model).folder != original.folder
    assert model.drawn == 10


def test_an_erasure_that_changes_nothing_is_the_original(tmp_path):
    model, store = Model(), Store(tmp_path)
    original = generate(store, model, ImageRequest("plain", "original"))
    assert generate(store, model, erasure=Erasure()).folder == original.folder


def test_an_interrupted_drawing_goes_on_and_ends_alike(tmp_path):
    model, undisturbed = Model(limit=4), generate(Store(tmp_path / "a"), Model())
    with pytest.raises(KeyboardInterrupt):
        generate(Store(tmp_path / "b"), model)
    assert not list((tmp_path / "b" / "images").glob("[!.]*"))
    model = Model()
    resumed = generate(Store(tmp_path / "b"), model)
    assert model.drawn == 1
    assert torch.equal(pixels(resumed), pixels(undisturbed))


def test_goes_on_at_the_beginning_of_a_batch(tmp_path):
    store = Store(tmp_path)
    model = Model(limit=2)
    with pytest.raises(KeyboardInterrupt):
        generate(store, model)
    next(tmp_path.rglob("00001.png")).unlink()
    model = Model()
    generate(store, model)
    assert model.drawn == 5


def test_no_prompts_no_model(tmp_path):
    assert len(generate(Store(tmp_path), None, prompts=PROMPTS.limited(0))) == 0


def test_images_that_are_not_finite_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "draw", lambda *_, **__: iter([torch.full((2, 3, 8, 8), torch.nan)]))
    with pytest.raises(UnlearnError, match=r"erased:plain: the image of 'a' \(seed 1\) is not finite"):
        generate(Store(tmp_path), Model())


def test_requests_are_the_union_of_needs():
    metrics = {"a": DetectionRate(role="plain", known_from=50), "asr": AttackSuccessRate()}
    every = expanded(metrics, ["x", "y"])
    assert list(every) == ["a", "asr_x", "asr_x_resisted", "asr_y", "asr_y_resisted"]
    assert [str(request) for request in requests(every, None, ["x", "y"])] == [
        "original:plain",
        "erased:plain",
        "erased:attack:x",
        "erased:attack:y",
    ]


class Suffix(Attack):
    """Says every prompt twice."""

    paper, white_box = "", False

    def __init__(self, prompts=2, seeds=None):
        self.prompts, self.seeds, self.calls = prompts, seeds, 0

    def attack(self, target, prompts, generator):  # noqa: ARG002
        self.calls += 1
        texts = tuple(f"{prompt} {prompt}" for prompt in prompts.prompts)
        new = PromptSet(prompts.name, texts, self.seeds or prompts.seeds, prompts.shows, prompts.concepts)
        n = len(texts)
        return AdversarialPrompts(new, prompts.prompts, (1,) * n, (0,) * n, (False,) * n)


def unseen():
    return Target(None, None, None, {}, None)


def test_attacks_the_first_prompts_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unlearn.store.artifacts.plain", lambda value: json.loads(json.dumps(value, default=str))
    )
    method = Suffix()
    monkeypatch.setattr(Suffix, "__str__", lambda self: f"Suffix {self.prompts}")
    runs = [evaluation.attack("twice", method, PROMPTS, Store(tmp_path), 0, unseen, {}) for _ in range(2)]
    assert method.calls == 1
    assert runs[0] == runs[1]
    found = runs[0][0]
    assert found.prompts.name == "attack:twice"
    assert (found.prompts.prompts, found.prompts.seeds) == (("a a", "b b"), (1, 2))
    with pytest.raises(UnlearnError, match="must keep the seeds"):
        evaluation.attack("twice", Suffix(1, (9,)), PROMPTS, Store(tmp_path), 1, unseen, {})


def test_two_names_of_one_attack_are_two_attacks(tmp_path, monkeypatch):
    """The name decides what is random, and what the prompts are called."""
    monkeypatch.setattr(
        "unlearn.store.artifacts.plain", lambda value: json.loads(json.dumps(value, default=str))
    )
    monkeypatch.setattr(Suffix, "__str__", lambda self: f"Suffix {self.prompts}")
    given = (PROMPTS, Store(tmp_path), 0, unseen, {})
    found = [evaluation.attack(name, Suffix(), *given)[0] for name in ("one", "two")]
    assert [each.prompts.name for each in found] == ["attack:one", "attack:two"]


class Red(Detector):
    labels, threshold = ("red",), 0.4

    def scores(self, images):
        return images[:, :1].mean(dim=(2, 3))


def evidence(tmp_path, model=None):
    red = Concept(
        kind="object", phrases=["red"], anchor="", retain=[], prompts=None, detector="red", labels=["red"]
    )
    store, model = Store(tmp_path), model or Model()
    images = {
        request: generate(store, model, request)
        for request in (ImageRequest("plain", "original"), ImageRequest("plain", "erased"))
    }
    return Evidence(ConceptSet(erase={"red": red}), images, {"red": Red()})


def test_scores_images_from_disk_and_lists_them(tmp_path):
    found = evidence(tmp_path / "artifacts")
    metrics = {"erased": DetectionRate(role="plain", known_from=50)}
    scores, warnings = evaluation.score(metrics, found)
    assert (scores["erased"].value, scores["erased"].original.value) == (0, 100)
    assert warnings == []
    rows = evaluation.items(found.images, scores, {}, tmp_path / "runs" / "one")
    assert len(rows) == 10
    assert rows[0]["scores"] == {"erased": 1.0}
    assert rows[0]["model"] == "original"
    assert rows[9]["scores"] == {"erased": 0.0}
    assert rows[9]["prompt"] == "e"
    assert (tmp_path / "runs" / "one" / rows[9]["image"]).resolve().exists() or rows[9]["image"].startswith(
        "../.."
    )


def test_undefined_scores_are_left_out_and_said(tmp_path):
    found = evidence(tmp_path)
    images = {
        ImageRequest("synonym", model): generate(
            Store(tmp_path), None, ImageRequest("synonym", model), prompts=PROMPTS.limited(0)
        )
        for model in ("original", "erased")
    }
    scores, warnings = evaluation.score(
        {"erased_synonym": DetectionRate(role="synonym", known_from=50)},
        Evidence(found.concepts, images, found.detectors),
    )
    assert scores == {}
    assert warnings == ["erased_synonym: the concept has no prompts of the role 'synonym'."]


def test_blank_images_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "draw", lambda *_, **__: iter([torch.full((5, 3, 8, 8), 0.2)]))
    _, warnings = evaluation.score({}, evidence(tmp_path))
    assert warnings[0].startswith("original:plain: 5 of 5 images are blank")
