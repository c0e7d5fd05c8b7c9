"""A virtual environment that holds exactly what a package's requirements bring, linked from this one."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement


def installed(artifact: Path, folder: Path) -> Path:
    """The ``bin`` of a new environment in ``folder``, in which a wheel or sdist is installed by pip.

    What it requires is linked, not installed, since torch alone would take minutes; packages that this
    environment has and the requirements do not name are not there.
    """
    venv.create(folder)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    link(distribution("setuptools"), site)  # without it, nothing can be built from an sdist
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", artifact], check=True)
    (package,) = distributions(name="unlearn", path=[str(site)])
    for required in requirements(package):
        link(required, site)
    return folder / "bin"


def requirements(package: Distribution) -> list[Distribution]:
    """What a package requires here, what that requires, and so on."""
    found: dict[tuple[str, frozenset[str]], Distribution] = {}
    todo = wanted(package, frozenset())
    while todo:
        requirement = todo.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key not in found:
            found[key] = distribution(requirement.name)
            todo += wanted(found[key], key[1])
    return list(found.values())


def wanted(package: Distribution, extras: frozenset[str]) -> list[Requirement]:
    """The requirements of a package that apply on this machine with these extras."""
    contexts = [{"extra": extra} for extra in ("", *extras)]
    stated = map(Requirement, package.requires or ())
    return [one for one in stated if one.marker is None or any(map(one.marker.evaluate, contexts))]


def link(package: Distribution, site: Path) -> None:
    """Makes a package's top folders and files visible in another ``site-packages``."""
    for top in {path.parts[0] for path in package.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(package.locate_file(top))).resolve())
