"""`unlearn clean`: lists by default, removes what was asked for, and nothing that is somebody's."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest
from synthetic_run import synthetic_run

from unlearn.cli import main
from unlearn.store.artifacts import Store

DAY = 86400


def clean(*words):
    with pytest.raises(SystemExit) as ended:
        main(["clean", *map(str, words)])
    return ended.value.code


def make(folder):
    (folder / "00000.png").write_bytes(b"x" * 5000)
    (folder / "cost.json").write_text("{}")


@pytest.fixture
def outputs(tmp_path):
    """Two runs that share an artifact, one that was killed, an artifact of none, and leftovers."""
    root = tmp_path / "outputs"
    store = Store(root / "artifacts")
    shared, own, lost = (store.once("erasure", {"number": n}, make) for n in range(3))
    curve = store.once("curves", {"images": [[f"erasure/{own.name}"]]}, make)
    (root / "a friend's notes.txt").write_text("mine")
    for name, artifacts in (("rece-a", [shared, own]), ("esd-b", [shared])):
        folder = root / "runs" / name
        kept = {
            f"x{i}": {"fingerprint": path.name, "path": os.path.relpath(path, folder)}
            for i, path in enumerate(artifacts)
        }
        synthetic_run(folder, items=False, artifacts=kept)
    killed = root / "runs" / "killed"
    (killed / ".hydra").mkdir(parents=True)
    (killed / ".hydra" / "hydra.yaml").write_text("runtime:\n  config_sources:\n  - path: unlearn.conf\n")
    (killed / "metrics.jsonl").write_text("")
    (killed / "wandb" / "offline-run-20260101_000000-x" / "files").mkdir(parents=True)
    (killed / "wandb" / "offline-run-20260101_000000-x" / "files" / "config.yaml").write_text("a: 1")
    (root / "runs" / "rece-a" / f".report.html.{2**22 + 7}").write_text("half")
    (root / "runs" / "rece-a" / f".results.json.{os.getpid()}").write_text("half")
    (root / "artifacts" / "erasure" / ".0123456789ab.lock").touch()
    (root / "artifacts" / "erasure" / ".0123456789ab.tmp").mkdir()
    (root / "artifacts" / "erasure" / ".0123456789ab.tmp" / "00000.png").write_bytes(b"y")
    store.scratch("images", {"unfinished": 1})
    return {"root": root, "shared": shared, "own": own, "lost": lost, "curve": curve, "killed": killed}


def everything(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_it_only_lists_unless_told(outputs, capsys):
    before = everything(outputs["root"])
    assert clean(outputs["root"]) == 0
    assert everything(outputs["root"]) == before
    said = capsys.readouterr().out
    lines = {
        line.split("  ")[-2].strip() if "(" in line else line.split("  ")[-1]: line
        for line in said.splitlines()
    }
    assert "no run refers to it" in lines[f"artifacts/erasure/{outputs['lost'].name}"]
    assert "(" not in lines[f"artifacts/erasure/{outputs['shared'].name}"]
    assert "(" not in lines[f"artifacts/curves/{outputs['curve'].name}"]
    assert "no results, W&B folder" in lines["runs/killed"]
    assert "5.3 kB" in lines[f"artifacts/erasure/{outputs['own'].name}"] or "kB" in said
    assert f"runs/rece-a/.report.html.{2**22 + 7}" in said
    assert "in use" in next(line for line in said.splitlines() if f".results.json.{os.getpid()}" in line)
    assert "--unreferenced would remove 1 of these" in said
    assert "friend" not in said


def test_what_no_run_refers_to_goes(outputs):
    before = everything(outputs["root"])
    assert clean(outputs["root"], "--unreferenced", "--yes") == 0
    name = f"artifacts/erasure/{outputs['lost'].name}"
    assert before - everything(outputs["root"]) == {name} | {
        f"{name}/{file}" for file in ("00000.png", "cost.json", "inputs.json", "made.json")
    }


def test_a_run_goes_with_what_only_it_refers_to(outputs):
    assert clean(outputs["root"], "--runs", "rece-*", "--unreferenced", "--yes") == 0
    there = everything(outputs["root"])
    assert outputs["shared"].is_dir()
    assert not any(outputs[name].exists() for name in ("own", "lost", "curve"))
    assert "runs/esd-b/results.json" in there
    assert "runs/rece-a/results.json" not in there


def test_leftovers_of_killed_runs_go_and_unfinished_work_only_when_asked(outputs):
    root = outputs["root"]
    assert clean(root, "--leftovers", "--yes") == 0
    there = everything(root)
    assert not outputs["killed"].exists()
    assert not any(".0123456789ab" in path for path in there)
    assert f"runs/rece-a/.report.html.{2**22 + 7}" not in there
    assert f"runs/rece-a/.results.json.{os.getpid()}" in there, "of a living process"
    assert outputs["lost"].is_dir()
    assert any(path.startswith("artifacts/scratch/images/") for path in there)
    assert clean(root, "--scratch", "--yes") == 0
    assert not any(path.startswith("artifacts/scratch/images/") for path in everything(root))


@pytest.fixture
def strange(outputs, tmp_path):
    """A user's own files in every folder that there is, named as unlike and as like ours as may be."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "results.json").write_text("{}")
    kept = {}
    for folder in [path for path in outputs["root"].rglob("*") if path.is_dir()] + [outputs["root"]]:
        for name in ("thesis.tex", ".DS_Store", ".notes.html.12", "0123456789ab.txt", "keep.jsonl.bak"):
            (folder / name).write_text("mine")
            kept[folder / name] = "mine"
        (folder / "link").symlink_to(other)
    for name in ("0123456789ab", "runs", "dead"):
        place = outputs["root"] / "runs" / name
        place.mkdir()
        (place / "results.json").write_text("mine")
        kept[place / "results.json"] = "mine"
    for name in ("erasure/ffffffffffff", "erasure/photos", "scratch/images/eeeeeeeeeeee"):
        place = outputs["root"] / "artifacts" / name
        place.mkdir(parents=True)
        (place / "holiday.png").write_text("mine")
        kept[place / "holiday.png"] = "mine"
    kept[other / "results.json"] = "{}"
    return kept


def test_strange_files_stay_whatever_is_asked_for(outputs, strange, capsys):
    words = ("--runs", "*", "--unreferenced", "--leftovers", "--scratch", "--yes")
    for _ in range(2):
        assert clean(outputs["root"], *words[0 if _ == 0 else 2 :]) == 0
    for path, text in strange.items():
        assert path.read_text() == text, path
    assert all(path.with_name("link").is_symlink() for path in strange if path.name == "thesis.tex")
    assert not (outputs["root"] / "runs" / "rece-a" / "results.json").exists()
    assert "Not the program's own, and left: runs/rece-a/thesis.tex" in capsys.readouterr().out


def test_what_a_living_process_holds_stays(outputs, capsys):
    root = outputs["root"]
    locks = [
        outputs["killed"] / ".unlearn.lock",
        root / "artifacts" / "erasure" / ".0123456789ab.lock",
        root / "artifacts" / "erasure" / f".{outputs['lost'].name}.lock",
    ]
    files = [lock.open("w") for lock in locks]
    for file in files:
        fcntl.flock(file, fcntl.LOCK_EX)
    assert clean(root, "--leftovers", "--unreferenced", "--runs", "killed", "--yes") == 0
    assert (outputs["killed"] / "metrics.jsonl").exists()
    assert (root / "artifacts" / "erasure" / ".0123456789ab.tmp" / "00000.png").exists()
    assert outputs["lost"].is_dir()
    assert "In use, and kept: runs/killed" in capsys.readouterr().out
    for file in files:
        file.close()
    assert clean(root, "--leftovers", "--unreferenced", "--yes") == 0
    assert not outputs["killed"].exists()
    assert not outputs["lost"].exists()


def test_only_what_is_old_enough(outputs):
    old = 8 * DAY
    for path in outputs["lost"].iterdir():
        os.utime(path, (path.stat().st_mtime - old, path.stat().st_mtime - old))
    assert clean(outputs["root"], "--unreferenced", "--leftovers", "--older-than", "9d", "--yes") == 0
    assert outputs["lost"].is_dir()
    assert clean(outputs["root"], "--unreferenced", "--leftovers", "--older-than", "1w", "--yes") == 0
    assert not outputs["lost"].exists()
    assert outputs["killed"].exists()


def test_artifacts_stay_where_nobody_knows_what_a_run_refers_to(outputs):
    (outputs["root"] / "runs" / "esd-b" / ".hydra" / "hydra.yaml").write_text("path: unlearn.conf")
    (outputs["root"] / "runs" / "esd-b" / "results.json").write_text("{")
    assert clean(outputs["root"], "--unreferenced", "--yes") == 0
    assert all(outputs[name].is_dir() for name in ("shared", "own", "lost"))


@pytest.mark.parametrize(
    ("tty", "answer", "gone"), [(False, "y\n", False), (True, "\n", False), (True, "y\n", True)]
)
def test_it_asks_on_a_terminal_and_refuses_elsewhere(outputs, monkeypatch, capsys, tty, answer, gone):
    class Input:
        def isatty(self):
            return tty

        def readline(self):
            return answer

    monkeypatch.setattr(sys, "stdin", Input())
    assert clean(outputs["root"], "--unreferenced") == (0 if gone else 2)
    assert outputs["lost"].exists() is not gone
    out, err = capsys.readouterr()
    assert outputs["lost"].name in out
    assert ("Say --yes" in err) is not gone


@pytest.mark.parametrize(
    "content", [{}, {"runs/x/results.json": "{}", "artifacts/a/b.txt": ""}, {"notes.txt": "a"}]
)
def test_a_folder_of_something_else_is_refused(tmp_path, capsys, content):
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = everything(tmp_path)
    assert clean(tmp_path, "--unreferenced", "--leftovers", "--yes") == 2
    assert clean(tmp_path / "nowhere") == 2
    assert everything(tmp_path) == before
    assert "is no folder of outputs" in capsys.readouterr().err


def test_wrong_words_are_told(outputs, capsys):
    assert clean(outputs["root"], "--runs", "uce-*", "--yes") == 2
    assert "--runs: no run is called 'uce-*'" in capsys.readouterr().err
    assert clean(outputs["root"], "--leftovers", "--older-than", "soon") == 2
    assert "must be a number of m, h, d or w, as in 7d, got 'soon'" in capsys.readouterr().err
    assert clean(outputs["root"], "--leftovers", "--older-than", "1000w", "--yes") == 0
    assert "There is nothing to remove" in capsys.readouterr().out


def test_names_in_a_description_that_lead_outside_remove_nothing_there(outputs):
    victim = outputs["root"].parent / "victim.txt"
    victim.write_text("mine")
    path = outputs["lost"] / "made.json"
    made = json.loads(path.read_text())
    made["files"] |= {"../../../../victim.txt": "0", str(victim): "0"}
    path.write_text(json.dumps(made))
    assert clean(outputs["root"], "--unreferenced", "--yes") == 0
    assert victim.read_text() == "mine"
    assert not outputs["lost"].exists()
    assert Path(outputs["root"]).is_dir()
