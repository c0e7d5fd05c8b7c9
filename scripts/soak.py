"""Kills runs at random moments, lets each go on, and compares it with one that nothing disturbed.

Each kill has a stage, a moment within it and a signal of its own, all drawn from ``--seed``. A run that does
not come to its end afterwards is lost; one whose scores, items, images, prompts or erasure are not those of
the undisturbed run, byte for byte, is different. Either ends the program with 1. The runs are small ones, of
a random model (tests/small_world), and every one passes through all stages. Each is a process of its own,
forked from one that has imported the libraries already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["scripts.preloaded"])
ROOT = Path(__file__).resolve().parents[1]
WORLD = ROOT / "tests" / "small_world"
STAGES = ("load", "erase", "checkpoint", "attack", "generate", "resurge", "score", "report")
CODES = {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}
#: What a run is given, by the name of its case: all pass through every stage.
EVERY = (
    "model=tiny eval=tiny tracker=none concept=red eval.prompts={plain:4,unrelated:3,neighbour:2} "
    "+attack@eval.attacks.unlearndiffatk=unlearndiffatk "
    "eval.attacks.unlearndiffatk.prompts=3 eval.attacks.unlearndiffatk.batch_size=2 "
    "eval.attacks.unlearndiffatk.looks=1 eval.attacks.unlearndiffatk.steps=2 "
    "eval.attacks.unlearndiffatk.objective.images=1 +resurgence@eval.resurgence.back=relearn "
    "eval.resurgence.back.prompts=3 eval.resurgence.back.steps=[1,2] eval.resurgence.back.images=2 "
    "eval.resurgence.back.batch_size=2 eval.resurgence.back.parameters=[cross_attention]"
)
CASES = {
    "esd": "method=esd method.steps=6 method.batch_size=4 method.states=2 method.sampler.steps=2",
    "spm_static": "method=spm_static method.steps=6 method.batch_size=2 method.states=2 "
    "method.sampler.steps=2",
    "mace": "method=mace method.images=2 method.batch_size=2 method.kinds.object.steps=4 "
    "method.sampler.steps=2",
    "rece": "method=rece",
}
#: Settings and times that differ between two runs of the same configuration.
TIMES = {
    *("erase_seconds", "attack_seconds", "generate_seconds", "score_seconds"),
    *("seconds", "time", "peak_memory_gib", "environment"),
}


@dataclass(frozen=True)
class Kill:
    """When a run is killed: its case, stage, share of the stage's time that is over by then, and signal."""

    number: int
    case: str
    stage: str
    share: float
    signal: str


def planned(kills: int, seed: int) -> list[Kill]:
    """Every stage and signal in turn, so that few kills meet all of them; the rest is drawn."""
    draw = random.Random(seed)
    pairs = [(stage, name) for name in CODES for stage in STAGES]
    draw.shuffle(pairs)
    trained = [case for case in CASES if case != "rece"]
    return [
        Kill(
            number,
            draw.choice(trained if pairs[number % len(pairs)][0] == "checkpoint" else list(CASES)),
            *(pairs[number % len(pairs)][0], draw.random()),
            pairs[number % len(pairs)][1],
        )
        for number in range(kills)
    ]


def called(folder: Path, case: str, tiny: Path, doom: str = "") -> tuple[int, str, str]:
    """One call of the command in ``folder``, killed as ``doom`` says: its exit code, stdout and stderr."""
    words = ["run", "--config-dir", str(WORLD), f"model.source={tiny}", *EVERY.split(), *CASES[case].split()]
    process = FORKS.Process(target=_call, args=(folder, words, doom))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, (folder / "stdout").read_text(), (folder / "stderr").read_text()


def _call(folder: Path, words: list[str], doom: str) -> None:
    """In the process of the run."""
    os.chdir(folder)
    for number, name in enumerate((os.devnull, "stdout", "stderr")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    os.environ |= {"SMALL_WORLD_DOOM": doom, "SMALL_WORLD_CHECKPOINTS": "0"}
    program = str(WORLD / "unlearn.py")
    sys.argv = [program, *words]
    sys.path.insert(0, str(WORLD))
    warnings.simplefilter("ignore")
    runpy.run_path(program, run_name="__main__")


def lasting(value: Any) -> Any:
    """A value without what differs between two runs of the same configuration."""
    if isinstance(value, dict):
        return {key: lasting(item) for key, item in value.items() if key not in TIMES}
    return [lasting(item) for item in value] if isinstance(value, list) else value


def kept(folder: Path) -> dict[str, str]:
    """A digest of each file that a run leaves, by its path; of JSON without times."""
    found = {}
    for path in sorted(p for p in folder.glob("outputs/**/*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if ".hydra/" in name or path.name.endswith((".lock", ".log", ".html")) or path.name == "made.json":
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(lasting(json.loads(content)), sort_keys=True).encode()
        elif path.suffix == ".jsonl":
            rows = [lasting(json.loads(line)) for line in content.splitlines()]
            if path.name == "metrics.jsonl":  # said again, it may be in another order, or in fewer lines
                rows = [[row["stage"], row["step"], *each] for row in rows for each in row.items()]
            content = "\n".join(sorted({json.dumps(row, sort_keys=True) for row in rows})).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def durations(printed: str) -> dict[str, float]:
    """Seconds of each stage, as a run prints them; loading and a checkpoint are within the erasure's."""
    found = {
        name: float(value) for name, value in re.findall(r"^(\w+) .* (\d+\.\d) s$", printed, re.MULTILINE)
    }
    return found | {"load": 0.5, "checkpoint": 0.02}


def tried(kill: Kill, folder: Path, tiny: Path, expected: dict[str, str], times: dict[str, float]) -> str:
    """Kills a run and lets it go on; a line about that, whose last word is the verdict."""
    delay = kill.share * times[kill.stage]
    for _ in range(4):
        code, _, said = called(folder, kill.case, tiny, f"{kill.stage}:{delay:.3f}:{kill.signal}")
        if code:
            break
        shutil.rmtree(folder / "outputs")  # it had come to its end before its time
        delay /= 3
    struck = re.search(rf"soak: {kill.signal} in (\w+)", said)
    line = (
        f"{kill.number:>3}  {kill.case:<10} {kill.signal:<8} {kill.stage:<11}+{delay:5.2f} s  "
        f"in {struck[1] if struck else 'nothing':<11}"
    )
    if not code:
        return f"{line} missed"
    if code != CODES[kill.signal]:
        return f"{line} ended with {code}:\n{said[-2000:]}\nlost"
    code, _, said = called(folder, kill.case, tiny)
    if code:
        return f"{line} goes on and ends with {code}:\n{said[-2000:]}\nlost"
    found = kept(folder)
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return f"{line} {', '.join(wrong[:5])}: different" if wrong else f"{line} same"


def main() -> int:
    """As the command line says; 1 if anything was lost or differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (default: 2)")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests" / "shared"))
    from tiny_checkpoint import write_tiny

    start = time.monotonic()
    kills = planned(given.kills, given.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary, ThreadPoolExecutor(given.jobs) as pool:
        root = Path(temporary)
        tiny = write_tiny(root / "tiny")

        def undisturbed(case: str) -> tuple[dict[str, str], dict[str, float]]:
            folder = root / case
            folder.mkdir()
            code, printed, said = called(folder, case, tiny)
            if code:
                raise SystemExit(f"{case}: the undisturbed run ended with {code}:\n{said}")
            return kept(folder), durations(printed)

        def soaked(kill: Kill) -> str:
            folder = root / str(kill.number)
            folder.mkdir()
            line = tried(kill, folder, tiny, *expected[kill.case])
            print(line, flush=True)
            shutil.rmtree(folder)
            return line.split()[-1]

        cases = sorted({kill.case for kill in kills})
        expected = dict(zip(cases, pool.map(undisturbed, cases), strict=True))
        verdicts = Counter(pool.map(soaked, kills))
    missed = verdicts["missed"]
    print(
        f"{len(kills) - missed} kills: {verdicts['lost']} lost, {verdicts['different']} different, "
        f"{verdicts['same']} the same; {missed} came too late ({time.monotonic() - start:.0f} s)"
    )
    return int(verdicts["lost"] + verdicts["different"] > 0 or verdicts["same"] == 0)


if __name__ == "__main__":
    sys.exit(main())
