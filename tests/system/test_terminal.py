"""What a newcomer's terminal shows of `make demo`: the run, and nothing of a library's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unlearn.store.results import read_results

#: Begins with any Python process: a library that warns and logs to the terminal, once diffusers is there.
NOISY = """
import builtins

original = builtins.__import__

def noisy(name, *rest, **named):
    module = original(name, *rest, **named)
    if name == "diffusers" and builtins.__import__ is noisy:
        builtins.__import__ = original
        import logging, sys, warnings
        warnings.warn("theirs will be gone", FutureWarning)
        warnings.warn("theirs is deprecated", DeprecationWarning)
        logger = logging.getLogger("theirs")
        logger.propagate = False
        logger.addHandler(logging.StreamHandler())
        logger.warning("theirs was not initialised")
    return module

builtins.__import__ = noisy
"""
SMALL = ["method=uce", "model.sampler.steps=2", "eval.prompts.plain=2", "eval.prompts.unrelated=2"]


def run(folder, *words, **environment):
    """A run in ``folder``, at the smallest size: what it says and leaves."""
    command = [sys.executable, "-m", "unlearn.cli", "run", "eval=quick", *SMALL, *words]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done, Path(done.stdout.splitlines()[-1]).parent


@pytest.mark.slow
def test_the_demo_shows_no_librarys_warning_and_the_report_does(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NOISY)
    done, folder = run(tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stderr == ""
    assert "Warning: " not in done.stdout.replace("\nWarning: ", "\n")
    assert "theirs" not in done.stdout
    said = {each["text"]: each for each in read_results(folder)["environment"]["library_warnings"]}
    assert said["theirs was not initialised"]["library"] == "theirs"
    assert {"theirs will be gone", "theirs is deprecated"} <= set(said)
    for place in ("report.html", "unlearn.log"):
        text = (folder / place).read_text()
        assert all(each in text for each in ("theirs will be gone", "theirs was not initialised")), place
