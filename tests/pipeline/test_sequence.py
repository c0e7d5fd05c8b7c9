"""Concepts that are erased one after another."""

import pytest
import torch
from painted_world import concepts
from tiny_checkpoint import assert_untouched, state

import unlearn
from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.concepts.roles import prompt_sets
from unlearn.errors import ConfigError
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.perceptual import ImageDistance
from unlearn.pipeline.erasing import erase
from unlearn.pipeline.original import Source
from unlearn.pipeline.scoring import part
from unlearn.pipeline.sequence import BETWEEN, SO_FAR, measurements
from unlearn.store.artifacts import Store
from unlearn.tracking.none import Silent
from unlearn.tracking.several import Tracking

DUGE = (
    "steps=4",
    "batch_size=2",
    "prior_batch_size=2",
    "images=2",
    "memory=2",
    "sampler.steps=2",
    "optimizer.lr=1e-3",
)


class Heard(Silent):
    """Keeps what is logged, and may stop a run there."""

    def __init__(self, stop=None):
        self.rows, self.stop = [], stop

    def log(self, stage, values, step):
        self.rows.append((stage, step, dict(values)))
        if step == self.stop:
            raise KeyboardInterrupt


@pytest.fixture
def configure(tiny_folder, tmp_path):
    def configured(method, sequence=("church", "nudity", "parachute"), *words):
        own = [f"method.{word}" for word in DUGE] if method == "duge" else []
        return unlearn.configure(
            f"method={method}",
            *(["concept=sequence", f"concept.sequence=[{','.join(sequence)}]"] if sequence else []),
            "eval=quick",
            f"model.source={tiny_folder}",
            "model.sampler.resolution=32",
            "device=cpu",
            f"outputs={tmp_path}",
            *own,
            *words,
        )

    return configured


@pytest.fixture
def erased(tiny, tmp_path):
    """Erases, as the stage of a run does; returns each step, the store and what was logged."""

    def done(config, folder="store", stop=None):
        store, heard = Store(tmp_path / folder), Heard(stop)
        source = Source(config.model, config.device, store, (), tiny)
        steps = erase(config.method, config.steps, config.seeds.erase, source, store, Tracking((heard,)))
        return steps, store, heard.rows

    return done


@pytest.mark.parametrize("method", ["uce_2023", "duge"])
def test_an_interrupted_sequence_goes_on_where_it_was_and_ends_alike(
    method, configure, erased, tiny, monkeypatch
):
    monkeypatch.setattr("unlearn.methods.training.loop.CHECKPOINT_SECONDS", 0)
    config, before = configure(method), state(tiny)
    undisturbed, _, rows = erased(config, "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        erased(config, stop=1 if method == "uce_2023" else 6)  # in the second step
    assert_untouched(tiny, before)
    resumed, store, again = erased(config)
    assert [key.partition("/")[0] for key in store.made + store.reused] == ["erasure"] * 3
    assert len(store.reused) == 1
    assert [step for _, step, _ in rows] == list(range(len(rows)))
    assert sorted(step for _, step, _ in again) == list(range(len(rows)))
    assert len(rows) == (3 if method == "uce_2023" else 12)
    for one, other in zip(undisturbed, resumed, strict=True):
        assert one.folder.name == other.folder.name
        assert one.cost["forwards"] == other.cost["forwards"]
        assert one.cost["drift"] == other.cost["drift"]
        assert one.erasure.weights.keys() == other.erasure.weights.keys()
        for name, weight in one.erasure.weights.items():
            assert torch.equal(weight, other.erasure.weights[name])
    # Each step moves the weights on, and stands on its own: relative to the original model.
    first, second, third = (step.erasure.weights for step in undisturbed)
    assert all(not torch.equal(first[name], second[name]) for name in first)
    assert all(not torch.equal(second[name], third[name]) for name in first)
    if method == "uce_2023":
        (step,) = config.steps[2:]
        with tiny.erased(undisturbed[1].erasure):
            last = unlearn.erase(tiny, config.method, step)
        torch.testing.assert_close(undisturbed[2].erasure.map, undisturbed[1].erasure.map @ last.map)


def test_sequences_share_the_steps_that_they_have_in_common(configure, erased):
    whole, _, _ = erased(configure("uce_2023"))
    shorter, store, _ = erased(configure("uce_2023", ("church", "nudity")))
    assert not store.made
    assert [step.folder for step in shorter] == [step.folder for step in whole[:2]]
    alone, store, _ = erased(configure("uce_2023", None, "concept=church"))
    assert not store.made
    assert alone[0].folder == whole[0].folder
    _, store, _ = erased(configure("uce_2023", ("nudity", "church", "parachute")))
    assert len(store.made) == 3  # another order is another sequence, also where the same went before


def test_nothing_is_erased_any_number_of_times(configure, erased):
    steps, _, _ = erased(configure("none", ("church", "nudity")))
    assert [step.erasure.weights for step in steps] == [{}, {}]
    assert [step.cost["drift"] for step in steps] == [0, 0]


def test_what_is_measured_after_each_step(configure):
    config = configure("uce_2023")
    names = config.concept.sequence
    between, _, last = measurements(config.eval.metrics, list(config.eval.attacks), config.concepts, names)
    assert set(between.metrics) == set(BETWEEN)
    assert not between.attacks
    assert {request.prompts for request in between.needed} == {"plain", "neighbour", "unrelated"}
    assert last.attacks
    assert set(last.metrics) > {"kid", "asr_random_tokens", *BETWEEN}
    assert set(between.needed) < set(last.needed)
    alone = {name: [name] for name in ("church", "nudity", "parachute")}
    assert between.groups == {SO_FAR: ["church"], **alone}
    assert last.groups == {SO_FAR: ["church", "nudity", "parachute"], **alone}


def test_every_concept_has_its_own_number_of_prompts(configure):
    config = configure("uce_2023")
    limits = {"plain": 4, "neighbour": 5}
    sets = [prompt_sets(config.concepts, limits, (), 0, each=each) for each in (True, False)]
    each, all_together = sets
    assert len(each["plain"]) == 12
    assert each["plain"].concepts[:3] == ("church", "nudity", "parachute")
    assert len(all_together["plain"]) == 4
    assert len(each["neighbour"]) == len(all_together["neighbour"]) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=sld"], "concept.sequence: SLD acts while sampling, .* Methods for a sequence: .*duge"),
        (["~eval.metrics.erased"], "eval.metrics.erased: a sequence is measured by it"),
        (["concept.sequence=[church,chruch]"], "Unknown concept 'chruch'. Did you mean 'church'"),
        (["concept.sequence=[church]"], "concept.sequence: needs at least two concepts"),
        (["concept.sequence=[cassette_player,gas_pump]"], "anchor of 'gas_pump' .*'cassette_player' erases"),
    ],
)
def test_mistakes(words, message):
    with pytest.raises(ConfigError, match=message):
        unlearn.configure("method=uce_2023", "concept=sequence", "eval=quick", *words)


def test_a_part_of_a_rate_is_the_rate_of_that_part(tmp_path):
    names = ("a", "b", "a", "b", "a")
    prompts = PromptSet("plain", tuple("vwxyz"), tuple(range(5)), ("",) * 5, names)
    erased, original = ImageRequest("plain"), ImageRequest("plain", "original")
    images = {request: ImageSet(request, prompts, tmp_path) for request in (erased, original)}
    evidence = Evidence(concepts(), images, {})
    metric = DetectionRate(role="plain", known_from=0)
    values = {erased: torch.tensor([1.0, 0, 0, 0, 0]), original: torch.tensor([1.0, 1, 1, 0, torch.nan])}
    whole = metric.mean_score(values[erased], values[original], list("vwxyz"), "%", values)
    parts = {
        group: part(
            {"erased": metric, "kept": ImageDistance(roles=["plain"], clip="x")},
            {"erased": whole},
            evidence,
            n,
        )
        for group, n in {"a": ["a"], "b": ["b"], "both": ["a", "b"]}.items()
    }
    assert {group: found["erased"].value for group, found in parts.items()} == {"a": 50, "b": 0, "both": 25}
    a = parts["a"]["erased"]
    assert (a.n, a.expected, a.failed, a.original.value) == (2, 3, 1, 100)
    assert parts["both"]["erased"].interval == pytest.approx(whole.interval)
    assert not part({"erased": metric}, {"erased": whole}, evidence, ["c"])
