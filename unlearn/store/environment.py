"""Where and with what a run was made."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NotRequired, TypedDict

from unlearn.system.heard import LibraryWarning

_PACKAGES = (
    "unlearn",
    "torch",
    "torchvision",
    "diffusers",
    "transformers",
    "open_clip_torch",
    "onnxruntime",
    "torchmetrics",
    "torch-fidelity",
    "scipy",
    "hydra-core",
)


class Environment(TypedDict):
    """Where and with what something was made.

    Attributes:
        python: Version of Python.
        packages: Versions of this package and of those whose numerics matter, if installed.
        commit: The commit of the checkout; None outside one.
        dirty: Whether tracked files differed from that commit; None outside a checkout.
        device: As in ``cpu`` or ``cuda:0``.
        platform: Operating system and processor.
        library_warnings: What libraries warned of in the process that wrote ``results.json``; only there.
    """

    python: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    device: str
    platform: str
    library_warnings: NotRequired[list[LibraryWarning]]


def environment(device: str) -> Environment:
    """Versions, commit, device and platform of this process."""
    commit, dirty = _commit()
    return {
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "commit": commit,
        "dirty": dirty,
        "device": device,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def minor(package: str) -> str | None:
    """Major and minor version of an installed package, as in ``2.15``; None if it is not installed."""
    found = _version(package)
    return None if found is None else ".".join(found.split(".")[:2])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> tuple[str | None, bool | None]:
    """The checkout's commit and whether it was changed; nothing if this file is in no repository of ours.

    Asked for once: a process runs the code that it has begun with.
    """
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            command = ["git", "-C", str(here.parent), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside somebody else's repository, whose commit would mean nothing.
    if git("ls-files", "--error-unmatch", here.name) is None or (commit := git("rev-parse", "HEAD")) is None:
        return None, None
    return commit, bool(git("status", "--porcelain", "--untracked-files=no"))
