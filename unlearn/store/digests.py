"""Telling files apart by every byte of them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

import xxhash

from unlearn.store.remembered import Book

LARGE = 16 * 2**20
"""Bytes from which on a file's digest is remembered: less is read in a moment."""

SETTLED = 2 * 10**9
"""Nanoseconds for which a file must not have changed to be remembered.

Time stamps move in ticks, and an edit in the tick of the last one would leave no trace.
"""


def digest(path: Path) -> str:
    """The 128-bit XXH3 of all bytes of a file, as 32 hex digits.

    Of a large file it is remembered by path, size, inode and the times of the last changes of its content and
    of its entry, the second of which no program can set back.

    Raises:
        OSError: If the file cannot be read.
    """
    before = path.stat()
    if before.st_size < LARGE:
        return _whole(path)
    key = "|".join([str(path.resolve()), *map(str, _marks(before))])
    begun = time.time_ns()
    with Book("digests") as book:
        known = book.get(key)
        if isinstance(known, str):
            return known
        found = _whole(path)
        if _marks(path.stat()) == _marks(before) and begun - before.st_ctime_ns > SETTLED:
            book.add(key, found)
    return found


def digest_of(files: Mapping[str, Path]) -> str:
    """One digest of several files, as 32 hex digits: changes with any byte of them and with their names.

    Arguments:
        files: By the name that a file goes by, wherever it lies.

    Raises:
        OSError: If one cannot be read.
    """
    lines = [f"{digest(path)} {name}\n" for name, path in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def _marks(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_size, stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
