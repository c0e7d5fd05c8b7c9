"""What a user has put into an artifact's folder stays when the artifact is made again."""

from __future__ import annotations

from unlearn.store.artifacts import Store
from unlearn.store.replacing import put


def artifact(folder, text):
    (folder / "0").mkdir()
    (folder / "0" / "image.png").write_text(text)


def test_strange_files_outlive_an_artifact_that_is_made_anew(tmp_path):
    folder = Store(tmp_path).once("images", {"a": 1}, lambda made: artifact(made, "old"))
    strange = [folder / "notes.txt", folder / "0" / ".DS_Store", folder / "mine" / "deep" / "notes.txt"]
    strange += [tmp_path / "notes.txt", tmp_path / "images" / "notes.txt"]
    for path in strange:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    Store(tmp_path, force=True).once("images", {"a": 1}, lambda made: artifact(made, "new"))
    assert [path.read_text() for path in strange] == ["mine"] * len(strange)
    assert (folder / "0" / "image.png").read_text() == "new"
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, "notes.txt"])


def test_a_kill_between_the_old_and_the_new_loses_neither(tmp_path):
    for name in (".a.old", "a", ".a.tmp"):
        (tmp_path / name).mkdir()
        artifact(tmp_path / name, name)
        (tmp_path / name / f"notes of {name.strip('.')}").write_text("mine")
    put(tmp_path / ".a.tmp", tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "0" / "image.png").read_text() == ".a.tmp"
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "0", "notes of a.old", "notes of a", "notes of a.tmp"
    }  # fmt: skip
