import copy
import json
import re
from pathlib import Path
from typing import is_typeddict

import pytest

from unlearn import results as contract
from unlearn.environment import environment
from unlearn.errors import ArtifactError
from unlearn.heard import LibraryWarning
from unlearn.results import SCHEMA, read_items, read_results, write_items, write_results

DOCUMENT = Path(__file__).parent.parent / "docs" / "results.md"


def score(value=5.0, original=95.0, **other):
    entry = {
        "value": value,
        "unit": "%",
        "n": 60,
        "expected": 60,
        "failed": 0,
        "interval": [value - 3, value + 3],
        "better": "lower",
        "version": 1,
        "original": {"value": original, "interval": [original - 4, original + 4]},
        "difference": {"value": value - original, "interval": [value - original - 5, value - original + 5]},
    }
    return entry | other


@pytest.fixture
def results():
    return {
        "schema": SCHEMA,
        "name": "rece-church-pocket-s0-0123456789ab",
        "fingerprint": "0123456789ab",
        "method": "rece",
        "model": "pocket",
        "concept": "church",
        "seed": 0,
        "seeds": {"erase": 0, "generate": 0, "attack": 0},
        "scores": {"erased": score(), "fid": score(40, 38, unit="", interval=None, difference=None)},
        "cost": {
            "erase_seconds": 1.5,
            "attack_seconds": 0.0,
            "generate_seconds": 30,
            "score_seconds": 2.0,
            "peak_memory_gib": None,
            "parameters_changed": 1024,
            "unet_forwards": 0,
        },
        "warnings": ["The original model shows the concept rarely."],
        "artifacts": {"erasure": {"fingerprint": "ab", "path": "../../artifacts/erasure/ab"}},
        "environment": environment("cpu"),
    }


ITEM = {
    "prompts": "plain",
    "model": "erased",
    "index": 0,
    "prompt": "a church",
    "seed": 2**62,
    "image": "images/0.png",
    "scores": {"erased": 1.0},
}


def test_results_come_back_as_written(tmp_path, results):
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_damage_is_named_by_its_key(tmp_path, results):
    def damaged(change):
        broken = copy.deepcopy(results)
        change(broken)
        (tmp_path / "results.json").write_text(json.dumps(broken))
        with pytest.raises(ArtifactError) as error:
            read_results(tmp_path)
        return str(error.value)

    assert "scores.erased.n: is missing" in damaged(lambda r: r["scores"]["erased"].pop("n"))
    assert "scores.erased.value: must be a finite number, got 'low'" in damaged(
        lambda r: r["scores"]["erased"].update(value="low")
    )
    assert "scores.erased.n: must be int, got True" in damaged(lambda r: r["scores"]["erased"].update(n=True))
    assert "scores.erased.original.value: must be a finite number, got nan" in damaged(
        lambda r: r["scores"]["erased"]["original"].update(value=float("nan"))
    )
    assert "scores.fid: interval must be [low, high], got [3, 1]" in damaged(
        lambda r: r["scores"]["fid"].update(interval=[3, 1])
    )
    assert "scores.fid.better: must be one of lower, higher, got 'up'" in damaged(
        lambda r: r["scores"]["fid"].update(better="up")
    )
    assert "scores: must be an object, got None" in damaged(lambda r: r.update(scores=None))
    assert "warnings[0]: must be str" in damaged(lambda r: r.update(warnings=[1]))
    assert "schema: must be 1, got 2" in damaged(lambda r: r.update(schema=2))
    assert "(and 1 more)" in damaged(lambda r: (r.pop("seed"), r.pop("name")))


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1', "\N{NULL}", "NaN"])
def test_no_json_is_damage(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"results\.json"):
        read_results(tmp_path)


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="not found"):
        read_results(tmp_path / "nowhere")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_nan_and_no_infinity_is_written(tmp_path, results, value):
    results["scores"]["erased"]["value"] = value
    with pytest.raises(ArtifactError, match=r"scores\.erased\.value"):
        write_results(tmp_path, results)
    results["scores"]["erased"] = score(interval=[0.0, value])
    with pytest.raises(ArtifactError, match=r"scores\.erased\.interval"):
        write_results(tmp_path, results)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_write_leaves_the_old_file(tmp_path, results):
    write_results(tmp_path, results)
    with pytest.raises(ArtifactError, match="unknown key 'note'"):
        write_results(tmp_path, results | {"note": "?"})
    assert read_results(tmp_path) == results


def test_items_come_back_as_written(tmp_path):
    items = [ITEM, ITEM | {"prompts": "attack:random_tokens", "plain": "a church", "scores": {}}]
    write_items(tmp_path, items)
    assert read_items(tmp_path) == items
    assert read_items(tmp_path / "older") == []


def test_a_damaged_item_is_named_by_its_line(tmp_path):
    path = write_items(tmp_path, [ITEM, ITEM])
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ArtifactError, match="line 2"):
        read_items(tmp_path)
    with pytest.raises(ArtifactError, match=r"line 1\.model: must be one of original, erased"):
        write_items(tmp_path, [ITEM | {"model": "edited"}])


def test_environment_names_versions_and_device():
    found = environment("cuda:1")
    assert found["device"] == "cuda:1"
    assert found["packages"]["torch"].startswith("2.")
    assert (found["commit"] is None) == (found["dirty"] is None)


def test_the_document_names_every_key_and_no_other():
    kinds = [LibraryWarning, *(kind for kind in vars(contract).values() if is_typeddict(kind))]
    keys = {key for kind in kinds for key in kind.__annotations__}
    document = DOCUMENT.read_text(encoding="utf-8")
    tables = [part.split("\n\n")[0] for part in document.split("| key | type | meaning |")[1:]]
    documented = re.findall(r"^\| `(\w+)` \|", "\n".join(tables), re.MULTILINE)
    assert set(documented) == keys
