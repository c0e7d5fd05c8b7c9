"""What ``results.json`` says of the stages, from stages whose times, costs and artifacts are known."""

import json
from types import SimpleNamespace

import pytest
import torch
from noise_world import PROMPTS
from painted_world import Red

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.models.erasure import Erasure
from unlearn.pipeline.attacking import Attacked
from unlearn.pipeline.erasing import Erased
from unlearn.pipeline.label import Label
from unlearn.pipeline.outcome import Found, assemble
from unlearn.pipeline.scoring import Scored
from unlearn.pipeline.sequence import SO_FAR, Step
from unlearn.store.layout import SCHEMA

KIND, CONTROL = SimpleNamespace(control=False), SimpleNamespace(control=True)

LABEL = Label("a-run", "0123", "uce", "pocket", "red", 3, {"erase": 4, "generate": 5, "attack": 6})
PLAIN, ORIGINAL = ImageRequest("plain"), ImageRequest("plain", "original")


@pytest.fixture
def artifact(tmp_path):
    """Makes an artifact that took some seconds, with what was warned of and the machine."""

    def make(name, seconds, warnings=(), device="cpu"):
        folder = tmp_path / "artifacts" / name.replace(" ", "/")
        folder.mkdir(parents=True)
        made = {"seconds": seconds, "warnings": list(warnings), "environment": {"device": device}}
        (folder / "made.json").write_text(json.dumps(made))
        return folder

    return make


def cost(seconds, forwards, peak, drift=0.5):
    return {"seconds": seconds, "forwards": forwards, "peak_memory_gib": peak, "drift": drift}


def scored(folder, value, *warnings, groups=None):
    return Scored(
        {"erased": {"value": value}}, groups or {}, list(warnings), [], [], folder.parents[1], folder
    )


def drawn(request, folder, count=5):
    return ImageSet(request, PROMPTS.limited(count), folder)


def stages(artifact):
    """Two steps, an attack with guesses and one without, and a curve."""
    weights = {"unet.a": torch.zeros(2, 3), "unet.b": torch.zeros(4)}
    original = drawn(ORIGINAL, artifact("images original", 32))
    groups = [
        {SO_FAR: {"erased": {"value": value}}, "red": {"erased": {"value": value + 1}}, "blue": {}}
        for value in (40, 50)
    ]
    first = Step(
        Erased(Erasure(), artifact("erasure one", 1, ["slow"]), {}, cost(1.5, 10, 2.0)),
        {PLAIN: drawn(PLAIN, artifact("images first", 64)), ORIGINAL: original},
        scored(artifact("scores first", 128), 60, "blank", "few", groups=groups[0]),
    )
    empty = ImageRequest("synonym")
    last = Step(
        Erased(
            Erasure(weights), artifact("erasure two", 2, ["slow", "hot"]), {}, cost(None, None, None, None)
        ),
        {
            PLAIN: drawn(PLAIN, artifact("images last", 256, device="cuda")),
            ORIGINAL: original,
            empty: drawn(empty, artifact("images none", 4096), 0),
        },
        scored(artifact("scores last", 512), 20, "few", groups=groups[1]),
    )
    prompts = AdversarialPrompts(
        PROMPTS, PROMPTS.prompts, (1, 2, 3, 4, 5), (5, 5, 5, 5, 10), (True, False, None, True, True)
    )
    attacks = {
        "mma": Attacked(KIND, prompts, artifact("attack mma", 4), artifact("guesses mma", 8)),
        "cce": Attacked(CONTROL, prompts, artifact("attack cce", 16, ["lost"])),
    }
    back = {"erased": artifact("resurgence back", 1024, ["never"])}
    curves = {"back": SimpleNamespace(folders=back)}
    return Found([first, last], attacks, curves, [{"name": "back"}], {"judge": Red()})


def assembled(found, tmp_path, sequence=("red", "blue")):
    return assemble(LABEL, tmp_path / "runs" / "one", found, sequence, "cpu")


@pytest.fixture
def results(artifact, tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    return assembled(stages(artifact), tmp_path)


def test_it_is_called_as_the_run(results):
    keys = ("name", "fingerprint", "method", "model", "concept", "seed", "seeds")
    assert [results[key] for key in keys] == list(vars(LABEL).values())[:7]
    assert results["schema"] == SCHEMA
    assert results["environment"]["device"] == "cpu"
    assert "library_warnings" in results["environment"]


def test_scores_are_those_of_the_last_step(results):
    assert results["scores"] == {"erased": {"value": 20}}
    assert results["resurgence"] == [{"name": "back"}]
    assert results["steps"] == [
        {
            "concept": name,
            "scores": {"erased": {"value": value}},
            "concepts": {"red": {"value": value + 1}},
            "drift": drift,
            "erase_seconds": seconds,
            "unet_forwards": forwards,
        }
        for name, value, drift, seconds, forwards in (("red", 40, 0.5, 1.5, 10), ("blue", 50, 0.0, 0.0, 0))
    ]


def test_costs_are_summed_over_the_steps_and_every_artifact_counts_once(results):
    assert results["cost"] == {
        "erase_seconds": 1.5,
        "attack_seconds": 4 + 8 + 16,
        "generate_seconds": 32 + 64 + 256,
        "score_seconds": 128 + 512,
        "peak_memory_gib": 2.0,
        "parameters_changed": 10,
        "unet_forwards": 10,
    }


def test_attacks_are_counted(results):
    one = {"prompts": 5, "found": 3, "failed": 1, "queries": 3.0, "unet_forwards": 6.0}
    assert results["attacks"] == [
        {"name": "mma", "control": False, **one, "seconds": 12},
        {"name": "cce", "control": True, **one, "seconds": 16},
    ]


def test_warnings_come_once_the_artifacts_first(results):
    assert results["warnings"] == ["slow", "hot", "lost", "never", "few", "After step 1: blank"]


def test_artifacts_are_named_with_their_folders(results):
    folders = {
        "erasure": "erasure/two",
        "scores": "scores/last",
        "attack:mma": "attack/mma",
        "attack:cce": "attack/cce",
        "guesses:mma": "guesses/mma",
        "images:erased:plain": "images/last",
        "images:original:plain": "images/original",
        "resurgence:erased:back": "resurgence/back",
        "step1:erasure": "erasure/one",
        "step1:scores": "scores/first",
        "step1:images:erased:plain": "images/first",
    }
    found = results["artifacts"]
    assert {name: one["path"] for name, one in found.items() if one["path"]} == {
        name: f"../../artifacts/{path}" for name, path in folders.items()
    }
    assert all(found[name]["fingerprint"] == path.split("/")[1] for name, path in folders.items())
    prompts = {"prompts:plain": PROMPTS.fingerprint(), "prompts:synonym": PROMPTS.limited(0).fingerprint()}
    assert {name: one["fingerprint"] for name, one in found.items() if name.startswith("prompts:")} == prompts
    assert set(found) == {*folders, *prompts, "detector:judge"}
    (elsewhere,) = [one for one in results["made_with"] if one["device"] == "cuda"]
    (here,) = [one for one in results["made_with"] if one["device"] == "cpu"]
    assert elsewhere["artifacts"] == ["images:erased:plain"]
    assert sorted(here["artifacts"]) == sorted(set(folders) - {"images:erased:plain"})


def test_a_run_without_attacks_steps_and_curves_names_none(artifact, tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    whole = stages(artifact)
    found = Found(whole.steps[:1], {}, {}, [], whole.detectors)
    results = assembled(found, tmp_path, None)
    assert not {"attacks", "steps", "resurgence"} & set(results)
    assert results["cost"]["attack_seconds"] == 0
    assert results["cost"]["peak_memory_gib"] == 2.0
    nothing = Found(whole.steps[1:], {}, {}, [], whole.detectors)
    assert assembled(nothing, tmp_path, None)["cost"]["peak_memory_gib"] is None


def test_an_attack_on_no_prompts_has_no_mean(artifact, tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    whole = stages(artifact)
    none = AdversarialPrompts(PROMPTS.limited(0), (), (), (), ())
    found = Found(
        whole.steps[:1],
        {"x": Attacked(KIND, none, artifact("attack x", 1))},
        {},
        [],
        whole.detectors,
    )
    (entry,) = assembled(found, tmp_path, None)["attacks"]
    assert (entry["prompts"], entry["found"], entry["queries"], entry["unet_forwards"]) == (0, 0, 0, 0)
