"""One process at a time."""

from __future__ import annotations

import subprocess
import sys

from unlearn.system.locks import held

HOLDS = """
import sys
from pathlib import Path
from unlearn.system.locks import held
with held(Path(sys.argv[1]), "somebody is here"):
    Path(sys.argv[2]).write_text("got it")
"""


def test_the_second_waits_and_says_so_and_nothing_stays(tmp_path):
    lock, sign = tmp_path / "new" / "lock", tmp_path / "sign"
    with held(lock):
        other = subprocess.Popen([sys.executable, "-c", HOLDS, lock, sign], stderr=subprocess.PIPE, text=True)
        assert other.stderr is not None
        assert other.stderr.readline() == "unlearn: somebody is here\n"
        assert not sign.exists()
    assert other.wait(timeout=60) == 0
    other.stderr.close()
    assert sign.read_text() == "got it"
    assert not list(lock.parent.iterdir())


def test_a_file_that_is_somebody_elses_stays(tmp_path):
    (tmp_path / "lock").write_text("mine")
    with held(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "mine"


def test_a_lock_that_is_removed_meanwhile_is_no_harm(tmp_path):
    with held(tmp_path / "lock"):
        (tmp_path / "lock").unlink()
    assert not list(tmp_path.iterdir())
