"""The random Stable Diffusion that most tests work on, and the golden outputs where there are any."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from library_warnings import pytest_terminal_summary, pytest_warning_recorded  # noqa: F401  (are hooks)
from packaging.requirements import Requirement


def golden_folder() -> Path:
    """Where the golden outputs are, or would be."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "golden"
    return Path(os.environ.get("UNLEARN_GOLDEN", beside))


def versions() -> str:
    """With what the tests run: Python and every direct dependency, development tools among them."""
    from scripts.lowest import declared

    names = sorted({Requirement(stated).name for stated in declared()}, key=str.lower)
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{name} {installed(name)}" for name in names)]
    )


def installed(name: str) -> str:
    """A package's version; a machine that only runs tests lacks some of the tools."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def pytest_report_header() -> list[str]:
    folder = golden_folder()
    golden = str(folder)
    if not (folder / "manifest.json").is_file():
        golden = f"NONE at {folder}, so their tests are skipped (set UNLEARN_GOLDEN to their folder)"
    return [f"versions: {versions()}", f"golden outputs: {golden}"]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of golden outputs; skips the test where there is none."""
    folder = golden_folder()
    if not (folder / "manifest.json").is_file():
        pytest.skip(f"no golden outputs at {folder}; set UNLEARN_GOLDEN")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint that predicts epsilon. Shared: tests must not write to it."""
    from tiny_checkpoint import write_tiny

    return write_tiny(tmp_path_factory.mktemp("tiny") / "epsilon")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path):
    """The loaded random model. Shared: tests must leave its weights as they are."""
    from tiny_checkpoint import tiny_settings

    return tiny_settings(tiny_folder).load("cpu")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item):
    """No test leaves a method of its own on a shared model: it would hide what later ones put on the class.

    ``monkeypatch.setattr`` does, of an instance; ``monkeypatch.setitem(vars(tiny), ...)`` does not.
    """
    result = yield
    for name in {"tiny", "golden_tiny"} & item.funcargs.keys():
        model = item.funcargs[name]
        left = [key for key in vars(model) if callable(getattr(type(model), key, None))]
        for key in left:
            del vars(model)[key]
        assert not left, f"{name} keeps {left}"
    return result


@pytest.fixture(scope="session")
def golden_tiny(golden: Path):
    """The model that the authors' code was run on. Shared: tests must leave its weights as they are."""
    from unlearn.models.families.sd import StableDiffusion
    from unlearn.models.sampling import Sampler

    return StableDiffusion(
        world="sd",
        source=str(golden / "tiny-sd"),
        revision=None,
        dtype="float32",
        clip="",
        inception="",
        sampler=Sampler(scheduler="pndm", steps=8, guidance=3.0, resolution=64, batch_size=4),
    ).load("cpu")
