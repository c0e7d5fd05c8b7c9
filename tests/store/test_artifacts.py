import enum
import json
import multiprocessing
import os
import platform
import signal
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import pytest

from unlearn.errors import ArtifactError, ConfigError, UnlearnWarning
from unlearn.store import artifacts
from unlearn.store.artifacts import Store, fingerprint, plain


class Colour(enum.Enum):
    red = 1


@dataclass
class Settings:
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    steps: int
    batch_size: int = 1


@dataclass
class Others:
    steps: int


def write(text):
    def make(folder):
        (folder / "value.txt").write_text(text)

    return make


def test_fingerprint_depends_on_values_and_not_on_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})
    assert fingerprint({"a": 1}) != fingerprint({"a": "1"})
    assert len(fingerprint({})) == 12


def test_fingerprint_knows_classes_and_leaves_out_neutral_fields():
    assert fingerprint({"x": Settings(2)}) == fingerprint({"x": Settings(2, batch_size=8)})
    assert fingerprint({"x": Settings(2)}) != fingerprint({"x": Settings(3)})
    assert fingerprint({"x": Settings(2)}) != fingerprint({"x": Others(2)})


def test_plain_describes_what_configs_hold():
    value = {"path": Path("a") / "b", "colour": Colour.red, "set": {"y", "x"}, "pair": (1, None)}
    assert plain(value) == {"path": "a/b", "colour": "red", "set": ["x", "y"], "pair": [1, None]}


def test_plain_refuses_what_it_cannot_compare():
    with pytest.raises(TypeError, match="cannot describe object"):
        plain(object())


def test_once_makes_once(tmp_path):
    first, second = Store(tmp_path), Store(tmp_path)
    folder = first.once("images", {"a": 1}, write("one"))
    assert second.once("images", {"a": 1}, write("two")) == folder
    assert (folder / "value.txt").read_text() == "one"
    key = f"images/{fingerprint({'a': 1})}"
    assert (first.made, first.reused) == ([key], [])
    assert (second.made, second.reused) == ([], [key])
    assert json.loads((folder / "inputs.json").read_text()) == {"a": 1}


def test_once_is_counted_once(tmp_path):
    Store(tmp_path).once("images", {}, write("one"))
    store = Store(tmp_path)
    for _ in range(2):
        store.once("images", {}, write("two"))
    assert len(store.reused) == 1


def test_force_makes_each_artifact_again_but_once(tmp_path):
    Store(tmp_path).once("images", {}, write("old"))
    store = Store(tmp_path, force=True)
    store.once("images", {}, write("new"))
    folder = store.once("images", {}, write("newer"))
    assert (folder / "value.txt").read_text() == "new"
    assert len(store.made) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, error):
    def make(folder):
        (folder / "half").write_text("…")
        raise error

    store = Store(tmp_path)
    with pytest.raises(error):
        store.once("images", {}, make)
    assert [p.name for p in (tmp_path / "images").iterdir() if p.is_dir()] == []
    assert (store.once("images", {}, write("whole")) / "value.txt").read_text() == "whole"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "value.txt").write_text("onE"),
        lambda folder: (folder / "value.txt").unlink(),
        lambda folder: (folder / "inputs.json").unlink(),
        lambda folder: (folder / "made.json").write_text("{"),
        lambda folder: (folder / "made.json").write_text("[]"),
        lambda folder: (folder / "inputs.json").write_text("{}"),
    ],
)
def test_damage_is_noticed_and_the_folder_named(tmp_path, damage):
    folder = Store(tmp_path).once("images", {"a": 1}, write("one"))
    damage(folder)
    with pytest.raises(ArtifactError, match=f"{folder.name}.*force=true"):
        Store(tmp_path).once("images", {"a": 1}, write("one"))
    mended = Store(tmp_path, force=True).once("images", {"a": 1}, write("two"))
    assert (mended / "value.txt").read_text() == "two"


@pytest.mark.parametrize(
    "stray", [".DS_Store", "Thumbs.db", "desktop.ini", "._value.txt", ".nfs0001", "notes.txt"]
)
def test_a_stray_file_is_no_damage(tmp_path, stray):
    folder = Store(tmp_path).once("images", {"a": 1}, write("one"))
    (folder / stray).write_text("left by a file browser")
    (folder / "sub").mkdir()
    (folder / "sub" / stray).write_text("and here")
    assert Store(tmp_path).once("images", {"a": 1}, write("two")) == folder
    (folder / "value.txt").write_text("onE")
    with pytest.raises(ArtifactError, match="damaged"):
        Store(tmp_path).once("images", {"a": 1}, write("two"))


@pytest.mark.parametrize("stray", [".DS_Store", "Thumbs.db"])
def test_a_stray_file_that_comes_while_the_artifact_is_made_is_none_of_its_own(tmp_path, stray):
    def make(folder):
        write("one")(folder)
        (folder / stray).write_text("left by a file browser")

    folder = Store(tmp_path).once("images", {"a": 1}, make)
    (folder / stray).unlink()
    assert Store(tmp_path).once("images", {"a": 1}, make) == folder


def test_the_artifact_says_where_and_with_what_it_was_made(tmp_path, monkeypatch):
    folder = Store(tmp_path, device="cuda:1").once("images", {"a": 1}, write("one"))
    made = artifacts.made_with(folder)
    assert (made["device"], made["python"]) == ("cuda:1", platform.python_version())
    assert made["packages"]["torch"] == version("torch")
    monkeypatch.setattr(platform, "python_version", lambda: "4.0")
    assert artifacts.made_with(Store(tmp_path).once("images", {"a": 1}, write("two"))) == made


def test_the_artifact_says_what_it_took_and_what_was_warned_of(tmp_path):
    def make(_folder):
        time.sleep(0.01)
        warnings.warn("this number is doubtful", UnlearnWarning, stacklevel=2)
        warnings.warn("a library will change", FutureWarning, stacklevel=2)

    with pytest.warns(FutureWarning, match="a library will change"):
        folder = Store(tmp_path).once("images", {}, make)
    assert artifacts.seconds(folder) >= 0.01
    assert artifacts.warned(folder) == ["this number is doubtful"]


def test_scratch_outlives_a_failure_and_goes_when_the_artifact_is_whole(tmp_path):
    store = Store(tmp_path)
    (store.scratch("erasure", {"a": 1}) / "checkpoint").write_text("half")

    def fail(_folder):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        store.once("erasure", {"a": 1}, fail)
    scratch = Store(tmp_path).scratch("erasure", {"a": 1})
    assert (scratch / "checkpoint").exists()
    store.once("erasure", {"a": 1}, write("whole"))
    assert not scratch.exists()


def test_unfinished_work_of_other_settings_is_told_by_its_keys(tmp_path):
    store = Store(tmp_path)
    own = {"method": {"class": "ESD", "steps": 5, "optimizer": {"lr": 0.1}}, "seed": 0}
    assert store.abandoned("erasure", own, "method") == []
    store.scratch("erasure", own)
    assert store.abandoned("erasure", own, "method") == []
    other = {"method": {"class": "ESD", "steps": 7, "optimizer": {"lr": 0.2}}, "seed": 0}
    assert store.abandoned("erasure", other, "method") == [
        "method.optimizer.lr (0.1 there, 0.2 here)",
        "method.steps (5 there, 7 here)",
    ]
    assert store.abandoned("erasure", other | {"seed": 1}, "method") == []
    artifacts.claim(tmp_path / "mine", own)
    artifacts.claim(tmp_path / "mine", own)
    with pytest.raises(ConfigError, match=r"mine holds unfinished work .*: method.optimizer.lr \(0.1 there"):
        artifacts.claim(tmp_path / "mine", other)
    (tmp_path / "mine" / "inputs.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"inputs.json: cannot be read .* Remove .*mine"):
        artifacts.claim(tmp_path / "mine", own)


def test_few_of_many_differences_are_listed():
    found = artifacts.differences({"a": 1, "b": [1], "c": None}, {"a": 2, "b": [2], "d": "x" * 50})
    assert found[:2] == ["a (1 there, 2 here)", "b ([1] there, [2] here)"]
    assert found[2:] == [f'd (null there, "{"x" * 38}… here)']
    assert artifacts.listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def _race(root):
    def make(folder):
        time.sleep(0.05)
        (folder / "value.txt").write_text(str(os.getpid()))

    store = Store(root)
    store.once("images", {"a": 1}, make)
    return len(store.made)


def test_of_several_processes_one_makes_the_artifact(tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert sum(pool.map(_race, [tmp_path] * 4)) == 1


def _hang(root):
    def make(folder):
        (folder / "value.txt").write_text("half")
        (root / "started").touch()
        time.sleep(60)

    Store(root).once("images", {"a": 1}, make)


def test_a_killed_process_leaves_no_artifact_and_no_lock(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_hang, args=(tmp_path,))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = Store(tmp_path).once("images", {"a": 1}, write("whole"))
    assert (folder / "value.txt").read_text() == "whole"
    assert [p for p in folder.parent.iterdir() if p.is_dir()] == [folder]
