"""The harness of kills, in small: it has to see what is lost and what differs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_a_few_kills_lose_nothing():
    command = [sys.executable, "-m", "scripts.soak", "--kills", "4", "--seed", "5", "--jobs", "1"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 lost, 0 different, 4 the same" in done.stdout


def test_what_a_run_leaves_is_told_apart_by_all_but_times(tmp_path):
    from scripts.soak import kept

    def left(name, seconds, value, image=b"pixels"):
        folder = tmp_path / name / "outputs" / "artifacts"
        folder.mkdir(parents=True)
        (folder / "results.json").write_text(json.dumps({"scores": value, "cost": {"seconds": seconds}}))
        (folder / "00000.png").write_bytes(image)
        return kept(tmp_path / name)

    first = left("first", 1.0, 2)
    assert left("slower", 9.0, 2) == first
    assert left("other", 1.0, 3) != first
    assert left("drawn", 1.0, 2, b"Pixels") != first


def test_a_plan_meets_every_stage_with_every_signal():
    from scripts.soak import CODES, STAGES, planned

    kills = planned(60, 0)
    assert {(kill.stage, kill.signal) for kill in kills} == {(s, n) for s in STAGES for n in CODES}
    assert planned(60, 0) == kills
    assert planned(60, 1) != kills
