"""An in-process sweep needs no more memory than its largest job, however many jobs it has."""

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import small_run
from small_run import RUN

from unlearn.system.freeing import forget

#: The command, which says after each job what its process holds.
PROGRAM = """
import gc, json, os, runpy, sys
import torch
from unlearn import freeing

real = freeing.give_back

def give_back():
    real()
    alive = [type(each) for each in gc.get_objects()]
    pages = int(open("/proc/self/statm").read().split()[1])
    held = {
        "MiB": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "modules": sum(issubclass(each, torch.nn.Module) for each in alive),
        "tensors": sum(issubclass(each, torch.Tensor) for each in alive),
    }
    print(json.dumps(held), file=sys.stderr, flush=True)

freeing.give_back = give_back
program = sys.argv.pop(1)
sys.argv[0] = program
sys.path.insert(0, os.path.dirname(program))
runpy.run_path(program, run_name="__main__")
"""


class Network:
    """Stands for what a job holds."""


def test_an_error_that_is_kept_keeps_nothing_of_its_job():
    alive = []

    def inner():
        network = Network()
        alive.append(weakref.ref(network))
        raise KeyError("of a library")

    def job():
        network = Network()
        alive.append(weakref.ref(network))
        try:
            inner()
        except KeyError as error:
            raise ValueError("of ours") from error

    kept = None
    try:
        job()
    except ValueError as error:
        kept = error
    assert all(each() is not None for each in alive)
    forget(kept)
    assert [each() for each in alive] == [None, None]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_ten_jobs_hold_no_more_than_the_first_ones(tiny_folder, tmp_path):
    words = [*RUN, "concept=red", f"model.source={tiny_folder}", "-m", "method=uce", "eval.prompts.plain=3"]
    words += ["method.ridge=" + ",".join(f"0.{digit}" for digit in range(1, 11))]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, small_run.PROGRAM, *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    held = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"MiB"')]
    assert len(held) == 10
    # The first job imports libraries and fills their caches.
    for kind, more in (("modules", 0), ("tensors", 0), ("MiB", 25)):
        assert max(each[kind] for each in held[2:]) <= held[1][kind] + more, held
