"""What is on disk is what is installed."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DATA = {".yaml", ".csv", ".json", ".safetensors", ".txt", ".html", ".md", ".npz"}


def setuptools():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def folders(root, package):
    """Packages below ``root``: its folders that hold files, caches left out."""
    found = {path.parent for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {".".join([package, *folder.relative_to(root).parts]) for folder in found}


def test_every_folder_is_a_package():
    expected = folders(ROOT / "unlearn", "unlearn") | folders(ROOT / "conf", "unlearn.conf")
    assert sorted(setuptools()["packages"]) == sorted(expected)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def test_the_wheel_holds_every_file(wheel):
    for root, package in ((ROOT / "unlearn", "unlearn"), (ROOT / "conf", "unlearn/conf")):
        for path in root.rglob("*"):
            if path.is_file() and (path.suffix in DATA | {".py"} or path.name == "py.typed"):
                name = f"{package}/{path.relative_to(root).as_posix()}"
                assert name in wheel, f"{name} is not in the wheel"


def test_the_packaged_model_stays_small():
    sizes = {path: path.stat().st_size for path in (ROOT / "unlearn" / "data").rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 32 * 2**20
    assert max(sizes.values(), default=0) <= 16 * 2**20
