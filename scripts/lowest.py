"""Prints the lowest version that pyproject.toml declares for each direct dependency, as requirements for pip.

The development tools are among them: the tests run with the lowest of those, too.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def declared() -> list[str]:
    """The requirements of the package and of its extra ``dev``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


def lowest(requirements: Iterable[str]) -> list[str]:
    """Each requirement pinned to its lower bound.

    Raises:
        ValueError: If one has none, or several.
    """
    pins = []
    for requirement in map(Requirement, requirements):
        bounds = [clause.version for clause in requirement.specifier if clause.operator == ">="]
        if len(bounds) != 1:
            raise ValueError(
                f"{requirement.name}: needs one lower bound, got '{requirement}'. Say it as in numpy>=2."
            )
        pins.append(f"{requirement.name}=={bounds[0]}")
    return pins


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest(declared())) + "\n")
