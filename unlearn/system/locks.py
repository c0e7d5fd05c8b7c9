"""Locks between processes, as files that the system lets go of however a process ends."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unlearn.system.writing import saying


@contextmanager
def held(path: Path, waiting: str | None = None) -> Iterator[None]:
    """Holds ``path`` for this process, and waits for another one that does.

    The file is there only while it is held. Its folder is made if need be.

    Arguments:
        waiting: What to say on stderr, if there is something to wait for.

    Raises:
        WriteError: If the folder takes no file, or its file system knows no locks.
    """
    with saying(path):
        handle = _take(path, waiting)
    try:
        yield
    finally:
        # Before it is let go of: whoever waits for this file finds that it has gone, and takes a new one.
        if _is_still(path, handle) and os.fstat(handle).st_size == 0:
            path.unlink()
        os.close(handle)


def _take(path: Path, waiting: str | None) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder was removed meanwhile
            if path.parent.is_dir():
                raise
            continue
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    print(f"unlearn: {waiting}", file=sys.stderr, flush=True)
                    waiting = None
                fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Whether the open file still has the name: its last holder has taken it away otherwise."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
