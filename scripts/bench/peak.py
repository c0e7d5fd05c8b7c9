"""The highest memory of this process since a moment (Linux)."""

from __future__ import annotations

from pathlib import Path


class Peak:
    """Counts from when it is made."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # forgets the highest so far
        self.before = _status("VmRSS")

    def mib(self) -> float:
        """MiB above what there was at that moment."""
        return (_status("VmHWM") - self.before) / 1024


def _status(key: str) -> int:
    """KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
