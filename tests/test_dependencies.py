"""What is imported is declared, what is declared has a tested lower bound, and the lock holds all of it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.lowest import declared, lowest

ROOT = Path(__file__).parent.parent
FIRST_PARTY = ["unlearn", "scripts", *sorted(path.stem for path in (ROOT / "tests").rglob("*.py"))]


def locked(name):
    """The requirements of a file of the lock, by name, with their hashes; those of other platforms, too."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    found = {}
    for line in filter(None, lines):
        requirement, *hashes = line.split(" --hash=")
        pin = Requirement(requirement)
        found.setdefault(canonicalize_name(pin.name), []).append((pin, [word.strip() for word in hashes]))
    return found


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["unlearn"], id="package"),
        # Scripts and tests may also use the development tools; tests import each other by bare names.
        pytest.param(
            ["--ignore", "DEP002,DEP004", "--exclude", r"\.venv", "unlearn", "scripts", "tests"]
            + [word for name in FIRST_PARTY for word in ("--known-first-party", name)],
            id="all",
        ),
    ],
)
def test_every_import_is_declared(words):
    command = [sys.executable, "-m", "deptry", "--no-ansi", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_dependency_has_a_lower_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in project["optional-dependencies"].values():
        lowest(extra)
    assert len(lowest(declared())) == len(declared())


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy==2.0"])
def test_a_missing_lower_bound_is_said(requirement):
    with pytest.raises(ValueError, match="numpy: needs one lower bound"):
        lowest([requirement])


@pytest.mark.parametrize("name", ["build.txt", "dev.txt"])
def test_the_lock_pins_and_hashes_and_names_no_registry(name):
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*(-|--(?!hash))", text.replace("    --hash", ""), re.MULTILINE)
    for pins in locked(name).values():
        for pin, hashes in pins:
            assert [clause.operator for clause in pin.specifier] == ["=="], pin
            assert hashes, f"{pin} has no hash"
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)


def test_the_lock_is_what_is_declared():
    found = locked("dev.txt")
    for requirement in map(Requirement, declared()):
        pins = found[canonicalize_name(requirement.name)]
        for pin, _ in pins:
            (clause,) = pin.specifier
            assert requirement.specifier.contains(clause.version), f"{pin} is not {requirement}: make lock"


def test_the_lock_builds_with_what_it_names():
    assert locked("build.txt")["setuptools"] == locked("dev.txt")["setuptools"]
