"""Files appear whole or not at all, and a place that takes none is named in a line."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch
from synthetic_run import synthetic_results

import unlearn
from unlearn.attacks.findings import Finding, kept
from unlearn.errors import ConfigError, UnlearnError
from unlearn.store.artifacts import Store, claim
from unlearn.store.results import write_items, write_results


def _results(folder):
    write_results(folder, synthetic_results())


def _items(folder):
    write_items(folder, [])


def _findings(folder):
    kept(folder, "batch0", lambda: [Finding("a", 1, 1, True)])


def _claim(folder):
    claim(folder, {"a": 1})


def _states(folder):
    from unlearn.methods.training.material import states

    states.once(folder / "pool.safetensors", lambda: {"x": torch.zeros(3)}, _NoMeter())


def _checkpoint(folder):
    from unlearn.methods.training import loop as training

    training._save(folder / "checkpoint.pt", _NoSelection(), {}, [], _NoMeter(), accumulate=False)


def _comparison(folder):
    from synthetic_run import synthetic_run

    from unlearn.report import write_comparison

    synthetic_run(folder / "a", items=False)
    write_comparison([folder / "a"], folder)


#: Who removes or moves anything, and what.
REMOVING = {
    "store/artifacts.py": "unfinished work of the store's own",
    "commands/folder.py": "what a failed run has made",
    "system/locks.py": "the lock that it holds",
    "models/files/export.py": "the folder that it has just written",
    "store/outputs.py": "what `unlearn clean` was asked to remove",
    "store/replacing.py": "the files that an artifact lists as its own",
    "tracking/jsonl.py": "the run's numbers",
    "system/writing.py": "the file that it has just written",
}
MODULES = {("os", "remove"), ("os", "replace"), ("shutil", "move")}
VERBS = {"rmtree", "unlink", "rmdir", "rename", "renames", "removedirs", "truncate"}


def test_nothing_else_removes_or_moves_files():
    root = Path(unlearn.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                module = node.func.value.id if isinstance(node.func.value, ast.Name) else None
                is_path = node.func.attr == "replace" and len(node.args) == 1  # strings take two
                if node.func.attr in VERBS or is_path or (module, node.func.attr) in MODULES:
                    found.add(path.relative_to(root).as_posix())
    assert found <= REMOVING.keys()


class _NoMeter:
    def read(self):
        return {"seconds": 0.0}


class _NoSelection:
    parameters: dict = {}  # noqa: RUF012


WRITERS = (_results, _items, _findings, _claim, _states, _checkpoint, _comparison)


@pytest.fixture
def calls(monkeypatch):
    """What reaches the disk, and what gets its name, in order."""
    seen = []
    sync = os.fsync

    def fsync(handle):
        seen.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))
        sync(handle)

    def replaced(before):
        def replace(self, target):
            seen.append(("replace", str(self)))
            return before(self, target)

        return replace

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, replaced(getattr(Path, name)))
    return seen


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__)
def test_a_name_is_given_to_what_the_disk_has(writer, calls, tmp_path):
    writer(tmp_path)
    replaced = [number for number, (what, _) in enumerate(calls) if what == "replace"]
    assert replaced
    for number in replaced:
        assert ("fsync", calls[number][1]) in calls[:number]
    assert calls[-1] == ("fsync", str(tmp_path))
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]


def test_an_artifact_is_given_its_name_when_the_disk_has_all_of_it(calls, tmp_path):
    def make(folder):
        (folder / "0").mkdir()
        (folder / "0" / "image.png").write_text("drawn")

    folder = Store(tmp_path).once("images", {"a": 1}, make)
    (last,) = (
        n for n, call in enumerate(calls) if call == ("replace", f"{folder.parent}/.{folder.name}.tmp")
    )
    synced = {Path(path).name for what, path in calls[:last] if what == "fsync"}
    assert synced >= {"image.png", "0", "made.json", "inputs.json", f".{folder.name}.tmp"}
    assert ("fsync", str(folder.parent)) in calls


@pytest.mark.parametrize(
    "writer", [_results, _items, _findings, _claim, _comparison], ids=lambda w: w.__name__
)
def test_a_full_disk_changes_nothing(writer, monkeypatch, tmp_path):
    writer(tmp_path)
    if writer is _findings:
        (tmp_path / "batch0.json").unlink()
    if writer is _claim:
        (tmp_path / "inputs.json").unlink()
    before = snapshot(tmp_path)
    write = Path.write_text

    def full(path, text, *rest, **named):
        write(path, text[: len(text) // 2], *rest, **named)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("synthetic_run.synthetic_run", lambda *_, **__: None)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UnlearnError, match=f"^no space left on the device of {tmp_path}.*Make room"):
        writer(tmp_path)
    assert snapshot(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB of which nearly nothing is left."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_every_library_that_writes_meets_a_full_disk_in_a_line(small_disk):
    from PIL import Image
    from safetensors.torch import save_file

    from unlearn.system.writing import whole

    (small_disk / "theirs").write_bytes(bytes(900 * 1024))
    noise = torch.rand(1, 1000, 1000)
    writers = {
        "torch": lambda path: torch.save({"x": noise}, path),
        "safetensors": lambda path: save_file({"x": noise}, path),
        "pillow": lambda path: Image.fromarray((noise[0] * 255).byte().numpy()).save(path, format="PNG"),
        "text": lambda path: path.write_text("x" * 2**20),
    }
    for name, writer in writers.items():
        with (
            pytest.raises(UnlearnError, match=f"no space left on the device of .*{name}"),
            whole(small_disk / name) as path,
        ):
            writer(path)
    assert [path.name for path in small_disk.iterdir()] == ["theirs"]


def test_what_raises_leaves_what_was_there(tmp_path):
    from unlearn.system.writing import whole

    path = tmp_path / "kept"
    path.write_text("before")

    def fail(unfinished):
        unfinished.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), whole(path) as unfinished:
        fail(unfinished)
    assert snapshot(tmp_path) == {"kept": b"before"}


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("/proc/foo/bar", "No such file"),
        ("/etc/hostname", "Not a directory"),
        ("/etc/hostname/below", "Not a directory"),
        ("x" * 256, "File name too long"),
        (f"not/yet/{'é' * 130}", "File name too long"),
        ("x/" * 2100, "File name too long"),
    ],
)
def test_a_place_that_takes_no_file_is_named(folder, reason, monkeypatch, tmp_path):
    from unlearn.system.writing import check_writable

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"^outputs: cannot be written to \({reason}.*\), got ") as caught:
        check_writable(Path(folder), "outputs")
    assert len(str(caught.value)) < 600
    check_writable(tmp_path / "a" / "b", "outputs")
    assert not list(tmp_path.iterdir())


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
