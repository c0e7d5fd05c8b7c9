"""Each command that writes, in a folder full of a user's files: none of them changes, a line says why.

Commands that fail early are called in this process; whole runs are in tests/pipeline/test_run.py.
"""

from __future__ import annotations

import logging
import sys

import pytest
from synthetic_run import synthetic_run

from unlearn import cli
from unlearn.commands.folder import RunFolder
from unlearn.errors import ConfigError

#: Made by others, or by another run: under the names that the commands write, and under none of them.
STRANGE = (
    "thesis.tex", ".DS_Store", "results.json", "items.jsonl", "metrics.jsonl", "report.html", "unlearn.log",
    ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", "wandb/settings", "multirun.yaml",
    "table.html", "table.csv", "table.tex", "table.md", "trade_off.svg", "0000-a-church-s0.png",
    "deep/er/x.pt", "checkpoint.pt", "inputs.json", "model_index.json", "artifacts/erasure/notes.txt",
    "runs/notes.txt",
)  # fmt: skip

BROKEN = ("method=esd", "method.sampler.steps=8", "tracker=none")
"""A run that fails before its first result."""


@pytest.fixture
def victim(tmp_path, monkeypatch):
    """A folder full of strange files; the working folder is the one that holds it."""
    folder = tmp_path / "victim"
    fill(folder, STRANGE)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def unlearn(monkeypatch, capsys):
    """Calls a command in this process; returns its exit code and what it said on stderr."""
    monkeypatch.setattr(sys, "argv", ["unlearn"])
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    handlers = logging.getLogger().handlers[:]

    def call(*words):
        with pytest.raises(SystemExit) as caught:
            cli.main(list(map(str, words)))
        said = capsys.readouterr().err
        assert "Traceback" not in said, said
        return caught.value.code, said

    yield call
    logging.getLogger().handlers[:] = handlers


def fill(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"my own {name}")


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def one_line(said):
    assert said.startswith("unlearn: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    "names", [STRANGE, ("thesis.tex", "deep/er/x.pt"), ()], ids=["ours", "others", "none"]
)
@pytest.mark.parametrize("where", ["victim", ".", "outputs=victim"])
def test_a_run_that_fails_takes_nothing_with_it(where, names, unlearn, tmp_path, monkeypatch):
    folder = tmp_path / "victim"
    folder.mkdir()
    fill(folder, names)
    before = snapshot(folder)
    monkeypatch.chdir(folder if where == "." else tmp_path)
    code, said = unlearn("run", *BROKEN, where if "=" in where else f"hydra.run.dir={where}")
    assert code == 2, said
    assert folder.is_dir()
    after = snapshot(folder)
    if "=" in where:  # the folder for runs may be there, and is empty
        assert not list((folder / "runs").glob("*-*"))
        after.pop("runs")
        before.pop("runs", None)
    assert after == before


@pytest.mark.parametrize(
    "names", [STRANGE, ("thesis.tex", "deep/er/x.pt"), ()], ids=["ours", "others", "none"]
)
def test_a_sweep_that_fails_takes_nothing_with_it(names, unlearn, tmp_path, monkeypatch):
    folder = tmp_path / "victim"
    folder.mkdir()
    fill(folder, names)
    monkeypatch.chdir(tmp_path)
    before = snapshot(folder)
    places = ("hydra.sweep.dir=.", "hydra.sweep.subdir=victim")
    code, said = unlearn("run", "-m", *BROKEN, *places)
    assert code in (1, 2), said
    assert folder.is_dir()
    assert snapshot(folder) == before
    before = snapshot(folder)
    code, said = unlearn("run", "-m", *BROKEN, "hydra.sweep.dir=victim", "hydra.sweep.subdir=new")
    assert code in (1, 2), said
    after = snapshot(folder)
    if not names or "multirun.yaml" not in names:
        after.pop("multirun.yaml")
    else:
        assert f"hydra.sweep.dir: {folder.name}/multirun.yaml is of no sweep" in one_line(said)
    assert after == before


def test_a_run_does_not_take_the_place_of_other_files(victim, unlearn):
    before = snapshot(victim)
    code, said = unlearn("run", "tracker=none", "hydra.run.dir=victim")
    assert code == 2
    assert "hydra.run.dir: victim is the folder of no run, and its .hydra would be overwritten" in one_line(
        said
    )
    assert snapshot(victim) == before


def test_a_run_does_not_take_the_place_of_another_runs_results(unlearn, tmp_path, monkeypatch):
    synthetic_run(tmp_path / "earlier", items=False)
    (tmp_path / "earlier" / ".hydra" / "hydra.yaml").write_text("path: unlearn.conf\n")
    before = snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, said = unlearn("run", "tracker=none", "hydra.run.dir=earlier")
    assert code == 2
    assert "holds the results of another run (its fingerprint is 0123456789ab" in one_line(said)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("many", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("outputs=/proc/foo", "outputs: cannot be written to (No such file or directory), got /proc/foo."),
        ("outputs=/etc/hostname", "outputs: cannot be written to (Not a directory), got /etc/hostname."),
        (f"outputs={'x' * 256}", "outputs: cannot be written to (File name too long)"),
        ("concept=custom concept.name=" + "x" * 256, "(File name too long)"),
    ],
    ids=["proc", "file", "long", "name"],
)
def test_outputs_that_take_no_file_are_named_in_a_line(word, reason, many, unlearn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = unlearn("run", *many, *word.split(), "tracker=none")
    assert code == 2
    assert reason in one_line(said)
    assert not [path for path in tmp_path.rglob("*") if path.name != "multirun.yaml" and not path.is_dir()]


def test_a_name_leads_into_no_other_folder(unlearn, tmp_path, monkeypatch):
    place = tmp_path / "a" / "b" / "c"
    place.mkdir(parents=True)
    monkeypatch.chdir(place)
    code, said = unlearn("run", *BROKEN, "concept=custom", "concept.name=../../../../out")
    assert code == 2, said
    assert {path.name for path in tmp_path.rglob("*")} <= {"a", "b", "c", "outputs", "runs"}


def test_a_report_does_not_take_the_place_of_other_files(victim, unlearn, tmp_path):
    for name in ("one", "two"):
        synthetic_run(tmp_path / "runs" / name, items=False, seed=int(name == "two"))
    before = snapshot(victim)
    code, said = unlearn("report", "runs/one", "runs/two", "--out", "victim")
    assert (code, snapshot(victim)) == (2, before)
    assert "victim/table.html is there already, and was not written by" in one_line(said)
    code, said = unlearn("report", "runs/one", "runs/two", "--out", "victim/thesis.tex")
    assert (code, snapshot(victim)) == (2, before)
    assert "report: --out: cannot be written to (Not a directory), got victim/thesis.tex" in one_line(said)
    (tmp_path / "runs" / "one" / "report.html").write_text("my own")
    code, said = unlearn("report", "runs/one")
    assert code == 2
    assert "one/report.html is there already" in one_line(said)
    assert (tmp_path / "runs" / "one" / "report.html").read_text() == "my own"
    fill(tmp_path / "mixed", ("thesis.tex", "runs.csv"))
    mine = snapshot(tmp_path / "mixed")
    for _ in range(2):  # the second takes the place of the first
        assert unlearn("report", "runs/one", "runs/two", "--out", "mixed")[0] == 0
    assert mine.items() <= snapshot(tmp_path / "mixed").items()
    (tmp_path / "runs" / "one" / "report.html").unlink()
    assert [unlearn("report", "runs/one")[0] for _ in range(2)] == [0, 0]


def test_generate_does_not_take_the_place_of_other_files(victim, unlearn, monkeypatch):
    def load(*_):
        raise AssertionError("nothing is loaded before the folder is looked at")

    monkeypatch.setattr("unlearn.models.families.sd.StableDiffusion.load", load)
    before = snapshot(victim)
    code, said = unlearn("generate", "--prompt", "a church", "--out", "victim")
    assert (code, snapshot(victim)) == (2, before)
    assert "generate: victim/0000-a-church-s0.png exists already" in one_line(said)
    code, said = unlearn("generate", "--prompt", "a church", "--out", "/proc/foo")
    assert code == 2
    assert "generate: --out: cannot be written to" in one_line(said)


def test_generate_adds_to_a_folder(victim, unlearn):
    before = snapshot(victim)
    assert unlearn("generate", "--prompt", "a house", "--out", "victim", "model.sampler.steps=1")[0] == 0
    after = snapshot(victim)
    assert after.pop("0000-a-house-s0.png").startswith(b"\x89PNG")
    assert after == before


@pytest.mark.parametrize("lora", [(), ("--lora",)], ids=["folder", "lora"])
def test_export_does_not_take_the_place_of_other_files(lora, victim, unlearn, tmp_path):
    synthetic_run(tmp_path / "run", items=False)
    before = snapshot(victim)
    for folder, reason in (
        ("victim", "victim exists already"),
        ("victim/thesis.tex", "Not a directory"),
        ("victim/thesis.tex/new", "Not a directory"),
        ("/proc/foo", "cannot be written to"),
        ("x" * 256, "File name too long"),
    ):
        code, said = unlearn("export", "run", folder, *lora)
        assert (code, snapshot(victim)) == (2, before)
        assert reason in one_line(said)


def test_erase_does_not_take_a_users_folder_for_scratch(victim, tiny):
    import unlearn
    from unlearn.errors import ConfigError

    settings = unlearn.configure("method=uce_2023", "concept=church")
    before = snapshot(victim)
    for gone in (None, "inputs.json"):
        if gone:
            (victim / gone).unlink()
            del before[gone]
        with pytest.raises(ConfigError, match=r"^scratch: .*victim holds files that are no unfinished work"):
            unlearn.erase(tiny, settings.method, settings.concepts, scratch=victim)
        assert snapshot(victim) == before


def test_a_run_that_has_just_begun_is_not_taken_for_a_strangers(tmp_path):
    """A second one may look between the first one's lock and its first file."""
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"is the folder of no run, and its \.hydra would be overwritten"):
        RunFolder(folder, folder / "unlearn.log").check("0" * 12)
    (folder / ".unlearn.lock").touch()
    RunFolder(folder, folder / "unlearn.log").check("0" * 12)


def test_who_has_waited_for_another_run_does_not_overwrite_its_results(tmp_path):
    place = RunFolder(tmp_path, tmp_path / "unlearn.log")
    place.check("1" * 12)
    (tmp_path / "results.json").write_text('{"fingerprint": "000000000000"}')  # meanwhile
    with pytest.raises(ConfigError, match="holds the results of another run"), place.held("1" * 12, {}):
        pytest.fail("it may not begin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json"]
