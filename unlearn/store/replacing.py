"""Folders that take the place of others, without the loss of what a user has put there."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path

from unlearn.system.writing import settle


def put(unfinished: Path, folder: Path) -> None:
    """Gives an artifact that is whole its name; files in an older one that are none of its own move over.

    Arguments:
        unfinished: Holds all of its files, in the same folder as ``folder``.
        folder: What it is called; there may be an older one.
    """
    settle(unfinished)
    old = folder.parent / f".{folder.name}.old"
    if folder.exists():
        if old.exists():  # of a run that was killed in the last line
            _merge(old, folder)
        folder.rename(old)
    unfinished.rename(folder)
    if old.exists():
        _merge(old, folder)


def _merge(old: Path, folder: Path) -> None:
    """Removes the files of an older artifact, and moves what else is there into the newer one."""
    known = _listed(old)
    for path in list(_below(old)):
        name = path.relative_to(old)
        target = folder / name
        if name.as_posix() in known or target.exists():
            path.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    _fold(old)


def _listed(folder: Path) -> Container[str]:
    """The files that an artifact says are its own; none if it is too damaged to say so."""
    try:
        return set(json.loads((folder / "made.json").read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _fold(folder: Path) -> None:
    """Removes the empty folders below ``folder`` and, if nothing else is there, itself."""
    for path in sorted([folder, *folder.rglob("*")], reverse=True):
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir()):
            path.rmdir()
