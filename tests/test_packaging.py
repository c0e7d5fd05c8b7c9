"""What is on disk is what is installed."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from bare_environment import installed

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
def built(tmp_path_factory):
    """The folder of an sdist of this checkout, and of the wheel that was made of that sdist."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_sdist_and_wheel_hold_every_file(built):
    (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for root, package in ((ROOT / "unlearn", "unlearn"), (ROOT / "conf", "unlearn/conf")):
        for path in root.rglob("*"):
            if path.is_file() and (path.suffix in DATA | {".py"} or path.name == "py.typed"):
                inner = path.relative_to(root).as_posix()
                assert f"{root.name}/{inner}" in packed, f"{path} is not in the sdist"
                assert f"{package}/{inner}" in names, f"{path} is not in the wheel"


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_what_is_built_runs_the_demo_elsewhere(built, pattern, tmp_path):
    (artifact,) = built.glob(pattern)
    commands = installed(artifact, tmp_path / "env")
    here = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = [commands / "unlearn", "run", "eval=quick"]
    done = subprocess.run(run, cwd=tmp_path, env=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install" not in done.stderr, "a library asks for a package that is not declared"
    results = Path(done.stdout.splitlines()[-1])
    assert (tmp_path / results).name == "results.json"
    assert (tmp_path / results).is_file()
    assert (tmp_path / results).with_name("report.html").is_file()
    where = [commands / "python", "-c", "import unlearn; print(unlearn.__file__)"]
    module = subprocess.run(where, cwd=tmp_path, env=here, capture_output=True, text=True, check=True).stdout
    assert Path(module).is_relative_to(tmp_path)


def test_the_packaged_model_stays_small():
    sizes = {path: path.stat().st_size for path in (ROOT / "unlearn" / "data").rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 32 * 2**20
    assert max(sizes.values(), default=0) <= 16 * 2**20
