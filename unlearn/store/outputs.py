"""What a folder of outputs holds, and what of it is this program's own and can go.

Only what is known by its place, its name and its description counts: runs, artifacts, unfinished work, and
what killed runs have left behind. Anything else is somebody's, and neither listed nor touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unlearn.errors import ConfigError

Kind = Literal["run", "artifact", "scratch", "leftover"]

NAME = re.compile(r"[0-9a-f]{12}")
HIDDEN = re.compile(r"\.(?P<name>[0-9a-f]{12})\.(?P<what>tmp|old|lock)")
#: Files that are written beside their place, with the process that writes them.
TEMPORARY = re.compile(
    r"\.(results\.json|items\.jsonl|metrics\.jsonl|report\.html|(config|hydra|overrides)\.yaml"
    r"|table\.(html|csv|tex|md)|[\w-]+\.svg)\.(?P<process>\d+)"
)
RUN = ("results.json", "items.jsonl", "metrics.jsonl", "report.html", "unlearn.log", ".unlearn.lock")
HYDRA = ("config.yaml", "hydra.yaml", "overrides.yaml")
LOCK = ".unlearn.lock"
#: What W&B keeps in its folder, by its path there.
WANDB = re.compile(
    r"(latest-run|debug(-internal|-core)?\.log|settings"
    r"|(offline-)?run-\d{8}_\d{6}-[^/]+/(run-[^/]+\.wandb(\.synced)?|logs/debug[\w-]*\.log|files/(media/.+"
    r"|config\.yaml|output\.log|requirements\.txt|diff\.patch|wandb-(summary|metadata)\.json)))"
)
#: What stages leave in unfinished work.
WORK = {".csv", ".json", ".jsonl", ".npz", ".part", ".png", ".pt", ".safetensors", ".tmp"}
DESCRIBED = ("inputs.json", "made.json")


@dataclass(frozen=True)
class Leaving:
    """Something that can be removed.

    Attributes:
        kind: ``run``; ``artifact``; ``scratch``, unfinished work that the same run would go on with; or
            ``leftover``, which serves nobody.
        path: Its folder or file.
        note: What else there is to know.
        files: Its files. Never any in a folder that a link leads to.
        strange: Files below ``path`` that are not the program's own.
        size: Bytes of its files.
        age: Seconds since the youngest of them changed.
        held: Whether a living process works on it.
        needs: Of a run, the artifacts that it refers to.
        finished: Of a run, whether it has results.
    """

    kind: Kind
    path: Path
    note: str
    files: tuple[Path, ...]
    strange: tuple[Path, ...] = ()
    size: int = 0
    age: float = 0.0
    held: bool = False
    needs: frozenset[Path] = frozenset()
    finished: bool = True

    @property
    def serves_nobody(self) -> bool:
        """Whether it was left behind by a killed run and no other one would go on with it."""
        return self.kind == "leftover" or not self.finished


def survey(outputs: Path) -> list[Leaving]:
    """All that is known in a folder of outputs, in the order of its names.

    Raises:
        ConfigError: If it is no such folder.
    """
    found = [
        *_runs(outputs / "runs"),
        *_artifacts(outputs / "artifacts"),
        *_temporary(outputs / "comparison"),
    ]
    if not found:
        raise ConfigError(
            f"clean: {outputs} is no folder of outputs: it has no runs and no artifacts. Give the folder "
            "that outputs= names."
        )
    return found


def unreferenced(found: Iterable[Leaving], going: Iterable[Leaving] = ()) -> list[Leaving]:
    """Artifacts that no run refers to but, perhaps, those that are ``going``."""
    found, gone = list(found), set(going)
    needed = {path for one in found if one.kind == "run" and one not in gone for path in one.needs}
    # A judged curve is named by no run, only by the images that it was judged on.
    names = {path.name for path in needed}
    return [
        one
        for one in found
        if one.kind == "artifact"
        and one.path not in needed
        and not (one.path.parent.name == "curves" and names & _named(one.path))
    ]


def remove(one: Leaving) -> None:
    """Removes its files, and the folders that are empty then; strange files stay, with their folders."""
    # What says that it is whole goes first, so that half of it is not taken for all.
    first = [path for path in one.files if path.name in ("made.json", "results.json")]
    for path in (*first, *(path for path in one.files if path not in first)):
        path.unlink(missing_ok=True)
    if one.path.is_dir():
        for folder, _, _ in os.walk(one.path, topdown=False):
            if not any(Path(folder).iterdir()):
                Path(folder).rmdir()


def is_held(lock: Path) -> bool:
    """Whether a living process holds a lock; the system lets go of those of others."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _runs(folder: Path) -> Iterator[Leaving]:
    for path in _folders(folder):
        if not _is_run(path):
            continue
        yield from _temporary(path, path / ".hydra")
        own = [path / name for name in RUN] + [path / ".hydra" / name for name in HYDRA]
        files = [file for file in own if _is_file(file)]
        logged = path / "wandb"
        files += [f for f in _below(logged) if WANDB.fullmatch(f.relative_to(logged).as_posix())]
        finished = (path / "results.json").is_file()
        said = [] if finished else ["no results"]
        said += ["W&B folder"] if any("wandb" in file.relative_to(path).parts[:1] for file in files) else []
        temporary = [file for file in _below(path) if TEMPORARY.fullmatch(file.name)]
        strange = set(_below(path)) - {*files, *temporary}
        yield _leaving(
            "run",
            path,
            ", ".join(said),
            files,
            strange,
            held=is_held(path / LOCK),
            needs=_needs(path),
            finished=finished,
        )


def _artifacts(root: Path) -> Iterator[Leaving]:
    for kind in _folders(root):
        if kind.name == "scratch":
            yield from (each for inner in _folders(kind) for each in _scratch(inner, root / inner.name))
            continue
        for entry in _entries(kind):
            if match := HIDDEN.fullmatch(entry.name):
                lock = kind / f".{match['name']}.lock"
                if match["what"] != "lock" and entry.is_dir():
                    yield _worked(entry, "leftover", "half made", lock)
                elif match["what"] == "lock" and _is_file(entry):
                    yield _leaving("leftover", entry, "lock", [entry], held=is_held(entry))
            elif NAME.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                yield from _artifact(entry)


def _artifact(path: Path) -> Iterator[Leaving]:
    if not all(_is_file(path / name) for name in DESCRIBED):
        return
    try:
        names = [*json.loads((path / "made.json").read_text(encoding="utf-8"))["files"], *DESCRIBED]
        inside = {file.relative_to(path).as_posix(): file for file in _below(path)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return  # whose files are its own, nobody knows
    files = [inside.pop(name) for name in names if name in inside]
    lock = path.parent / f".{path.name}.lock"
    yield _leaving("artifact", path, "", files, inside.values(), held=is_held(lock))


def _scratch(folder: Path, artifacts: Path) -> Iterator[Leaving]:
    for path in _folders(folder):
        if NAME.fullmatch(path.name) and _is_file(path / "inputs.json"):
            yield _worked(path, "scratch", "unfinished work", artifacts / f".{path.name}.lock")


def _worked(path: Path, kind: Kind, note: str, lock: Path) -> Leaving:
    files = [file for file in _below(path) if file.suffix in WORK]
    return _leaving(kind, path, note, files, set(_below(path)) - set(files), held=is_held(lock))


def _temporary(*folders: Path) -> Iterator[Leaving]:
    """Files that a killed process has written beside their place."""
    for path in (entry for folder in folders for entry in _entries(folder)):
        if (match := TEMPORARY.fullmatch(path.name)) and _is_file(path):
            yield _leaving("leftover", path, "half written", [path], held=_lives(int(match["process"])))


def _leaving(
    kind: Kind,
    path: Path,
    note: str,
    files: Iterable[Path],
    strange: Iterable[Path] = (),
    held: bool = False,
    needs: frozenset[Path] = frozenset(),
    finished: bool = True,
) -> Leaving:
    files = tuple(files)
    about = [file.lstat() for file in files if os.path.lexists(file)]
    youngest = max((each.st_mtime for each in about), default=path.lstat().st_mtime)
    size = sum(each.st_size for each in about)
    age = max(0.0, time.time() - youngest)
    return Leaving(kind, path, note, files, tuple(sorted(strange)), size, age, held, needs, finished)


def _is_run(path: Path) -> bool:
    """Whether this program has begun a run there."""
    try:
        if "path: unlearn.conf" in (path / ".hydra" / "hydra.yaml").read_text(
            encoding="utf-8", errors="replace"
        ):
            return True
    except OSError:
        pass
    return isinstance(_results(path).get("artifacts"), dict)


def _results(path: Path) -> dict[str, object]:
    try:
        found = json.loads((path / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _needs(path: Path) -> frozenset[Path]:
    """The artifacts that a run refers to; all that are beside it where its results cannot be read."""
    if not (path / "results.json").exists():
        return frozenset()
    artifacts = _results(path).get("artifacts")
    if not isinstance(artifacts, dict):
        return frozenset(
            each for kind in _folders(path.parent.parent / "artifacts") for each in _folders(kind)
        )
    named = (each.get("path") for each in artifacts.values() if isinstance(each, dict))
    return frozenset(Path(os.path.normpath(path / name)) for name in named if isinstance(name, str))


def _named(artifact: Path) -> set[str]:
    """Fingerprints that an artifact was made from."""
    return set(NAME.findall((artifact / "inputs.json").read_text(encoding="utf-8")))


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, unless it is a link or none."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(folder.iterdir())


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir() and not path.is_symlink()]


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _below(path: Path) -> list[Path]:
    """All files below a folder, links among them but not followed; the path itself if it is one."""
    if path.is_symlink() or not path.is_dir():
        return [path] if os.path.lexists(path) else []
    return [
        Path(folder) / name
        for folder, inner, names in os.walk(path)
        for name in (*names, *(each for each in inner if (Path(folder) / each).is_symlink()))
    ]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
