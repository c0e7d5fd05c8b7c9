"""How fast a checkpoint is told from another: every byte by XXH3, against SHA-256 in the same run.

``python scripts/bench/digests.py [GIB] [FILE]`` makes a file of random bytes (2 GiB unless said otherwise) in
the temporary folder, or takes yours. All of them find it in the system's cache; the last line is what a
second run pays.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from unlearn.store import digests


def timed(what: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of ``times`` calls."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        found.append(time.perf_counter() - start)
    return min(found)


def main(gib: float, given: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        path = given or Path(folder) / "weights"
        if given is None:
            block = os.urandom(2**26)
            with path.open("wb") as file:
                for _ in range(int(gib * 16)):
                    file.write(block)
        size = path.stat().st_size

        def read() -> None:
            with path.open("rb", buffering=0) as file:
                buffer = bytearray(2**18)
                while file.readinto(buffer):
                    pass

        def sha256() -> str:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        baseline = timed(sha256)
        print(f"{size / 2**30:.2f} GiB, {os.cpu_count()} cores")
        for name, seconds in (
            ("reading alone", timed(read)),
            ("SHA-256 (baseline)", baseline),
            ("XXH3-128", timed(lambda: digests._whole(path))),
        ):
            print(f"{name:<20}{size / seconds / 1e9:6.2f} GB/s {baseline / seconds:6.2f} x")
        digests.SETTLED = 0
        digests.digest(path)
        print(f"{'remembered':<20}{1000 * timed(lambda: digests.digest(path)):6.2f} ms")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(float(words[0]) if words else 2.0, Path(words[1]) if len(words) > 1 else None)
