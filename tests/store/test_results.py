import copy
import json
import re
from pathlib import Path
from typing import is_typeddict

import pytest

from unlearn.errors import ArtifactError
from unlearn.store import layout as contract
from unlearn.store.environment import environment
from unlearn.store.layout import SCHEMA
from unlearn.store.results import read_items, read_results, write_items, write_results
from unlearn.system.heard import LibraryWarning

DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"


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
        "prompts": 60,
        "unsure": 2,
        "bounds": [value, value + 3],
        "corrected": {"value": value, "interval": [value - 4, value + 4]},
        "mcnemar": {"erased": 0, "original": 54, "p": 1e-16},
        "equivalence": {"margin": 5.0, "p": 1.0, "holds": False},
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
    assert "NaN is no finite number" in damaged(
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
    assert "schema: must be 2, got 1" in damaged(lambda r: r.update(schema=1))
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
    path = write_items(tmp_path, [ITEM, ITEM | {"index": 1}])
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


def edited(results, path, value):
    """A copy in which one value is another."""
    found = copy.deepcopy(results)
    *way, last = path
    place = found
    for step in way:
        place = place[step]
    place[last] = value
    return found


CURVE = {
    "name": "relearn",
    "axis": "steps",
    "points": [
        {"at": 0.0, "label": "as it is", "value": 5.0, "interval": [1.0, 9.0], "n": 20, "original": None},
        {"at": 10.0, "label": "10", "value": 60.0, "interval": None, "n": 20, "original": None},
    ],
    "half": 10.0,
    "seconds": 3.0,
}
ATTACK = {
    "name": "x",
    "control": False,
    "prompts": 6,
    "found": 2,
    "failed": 1,
    "queries": 4,
    "unet_forwards": 80,
    "seconds": 1.0,
}
STEP = {
    "concept": "church", "scores": {"erased": score()}, "concepts": {"church": score()}, "drift": 0.1,
    "erase_seconds": 1.0, "unet_forwards": 0,
}  # fmt: skip
IMPOSSIBLE = [
    (("scores", "erased", "value"), 250, "must be from 0 to 100, got 250"),
    (("scores", "erased", "value"), -1, "must be from 0 to 100, got -1"),
    (("scores", "erased", "n"), -4, "must be at least 0, got -4"),
    (("scores", "erased", "n"), 0, "n: must be at least 1 where there is a value, got 0"),
    (("scores", "erased", "n"), 10**30, "n: is too large"),
    (("scores", "erased", "failed"), -1, "must be at least 0, got -1"),
    (("scores", "erased", "failed"), 1, "must be at least n and failed together, which are 61, got 60"),
    (("scores", "erased", "version"), 0, "must be at least 1, got 0"),
    (("scores", "erased", "interval"), [-5, 20], "interval: must be from 0 to 100, got -5"),
    (("scores", "erased", "interval"), [20, 5], "interval must be [low, high], got [20, 5]"),
    (("scores", "erased", "interval"), [1, 2, 3], "interval must be [low, high]"),
    (("scores", "erased", "interval"), [False, True], "interval"),
    (("scores", "erased", "original", "value"), 101, "original.value: must be from 0 to 100, got 101"),
    (("scores", "erased", "original", "interval"), [50, 120], "interval: must be from 0 to 100, got 120"),
    (("scores", "erased", "difference", "value"), -190, "value: must be from -100 to 100, got -190"),
    (("scores", "erased", "value"), 10**400, "must be a finite number"),
    (("scores", "clip", "value"), 300, "must be from -100 to 100, got 300"),
    (("cost", "erase_seconds"), -0.5, "cost.erase_seconds: must be at least 0, got -0.5"),
    (("cost", "parameters_changed"), -1, "must be at least 0, got -1"),
    (("cost", "peak_memory_gib"), -1, "must be at least 0, got -1"),
    (("seed",), -1, "seed: must be at least 0, got -1"),
    (("seeds", "attack"), 2**63, "seeds.attack: is too large"),
    (("warnings",), ["x"] * 10_001, "warnings: must have at most 10000 entries, got 10001"),
    (("attacks", 0, "found"), 7, "attacks[0].found: must be from 0 to 6, got 7"),
    (("attacks", 0, "failed"), 5, "attacks[0].failed: must be from 0 to 4, got 5"),
    (("attacks", 0, "queries"), -1, "attacks[0].queries: must be at least 0, got -1"),
    (("steps", 0, "drift"), -1, "steps[0].drift: must be at least 0, got -1"),
    (("steps", 0, "scores", "erased", "value"), 101, "steps[0].scores.erased.value: must be from 0 to 100"),
    (("steps", 0, "concepts", "church", "n"), -1, "steps[0].concepts.church.n: must be at least 0"),
    (("resurgence", 0, "points", 1, "value"), 101, "points[1].value: must be from 0 to 100, got 101"),
    (("resurgence", 0, "points", 1, "n"), -1, "resurgence[0].points[1].n: must be at least 0, got -1"),
    (("resurgence", 0, "points", 0, "original"), {"value": 101, "interval": None}, "value: must be from"),
    (("resurgence", 0, "points"), CURVE["points"] * 6000, "must have at most 10000 entries, got 12000"),
    (("resurgence", 0, "half"), 5.0, "half: must be where one of the points is, got 5.0"),
    (("resurgence", 0, "seconds"), -1, "resurgence[0].seconds: must be at least 0, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), IMPOSSIBLE)
def test_numbers_that_cannot_be_are_refused_with_their_key(tmp_path, results, path, value, said):
    results |= {"attacks": [ATTACK], "steps": [STEP], "resurgence": [CURVE]}
    results["scores"]["clip"] = score(30.0, 31.0, unit="100 cos")
    write_results(tmp_path, results)
    wrong = edited(results, path, value)
    (tmp_path / "results.json").write_text(json.dumps(wrong))
    with pytest.raises(ArtifactError) as caught:
        read_results(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/results.json: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError):
        write_results(tmp_path, wrong)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"n": 60', '"n": 60, "n": 61', "the key 'n' is there twice"),
        ('"value": 5.0', '"value": NaN', "NaN is no finite number"),
        ('"value": 5.0', '"value": -Infinity', "-Infinity is no finite number"),
        ('"value": 5.0', '"value": 1e400', "1e400 is no finite number"),
        ('"value": 5.0', '"value": ' + "9" * 5000, "is damaged"),
        ('"value": 5.0', '"value": ' + "[" * 100_000, "nested too deeply"),
    ],
    ids=lambda text: text[:30],
)
def test_what_json_does_not_allow_is_refused(tmp_path, results, old, new, said):
    path = write_results(tmp_path, results)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ArtifactError, match=said):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": {"erased": 0.0}, "index": -1}, r"line 2\.index: must be at least 0, got -1"),
        ({"seed": 2**63}, r"line 2\.seed: is too large"),
        ({"scores": {"erased": 2.0}}, r"line 2\.scores\.erased: must be from 0 to 1, got 2.0"),
        ({"scores": {"erased": -1.0}}, r"line 2\.scores\.erased: must be from 0 to 1, got -1.0"),
        ({"index": 0}, r"line 2: is of the same image as line 1"),
    ],
)
def test_items_that_cannot_be_are_refused_by_their_line(tmp_path, results, change, said):
    lines = [json.dumps(one) for one in (ITEM, ITEM | {"index": 1} | change)]
    (tmp_path / "items.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ArtifactError, match=said):
        read_items(tmp_path, results["scores"])


@pytest.mark.parametrize("line", ['{"a": NaN}', "[" * 100_000, '{"index": 1, "index": 2}', "\udcff"])
def test_lines_that_are_no_json_are_refused(tmp_path, line):
    (tmp_path / "items.jsonl").write_bytes(line.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(ArtifactError, match=r"items\.jsonl: (line 1 is no JSON|cannot be read)"):
        read_items(tmp_path)


def test_a_prompt_may_hold_what_python_takes_for_the_end_of_a_line(tmp_path):
    items = [ITEM | {"prompt": "a\u2028b\x85c\x0bd\x1ce\nf\rg"}, ITEM | {"index": 1}]
    write_items(tmp_path, items)
    assert read_items(tmp_path) == items
