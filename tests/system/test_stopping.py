"""What a signal does: to a block of work, to a training, and to a whole run."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from small_run import PROGRAM, RUN
from torch import nn

from unlearn.methods.method import Context, Meter
from unlearn.methods.training.loop import Optimizer, fit
from unlearn.models.erasure import Erasure
from unlearn.models.weights.parameters import Selection
from unlearn.system import stopping
from unlearn.system.stopping import Stopped, finishing, listening


@pytest.fixture
def context(tmp_path):
    meter = Meter(SimpleNamespace(forwards=0))
    return Context(seed=0, scratch=tmp_path, log=lambda _values, _step: None, progress=False, meter=meter)


def send(number):
    os.kill(os.getpid(), number)


def stopped(work):
    """The signal that stopped ``work``; None if it came to its end."""
    try:
        with listening():
            work()
    except Stopped as stop:
        return stop.number
    return None


@pytest.fixture(autouse=True)
def heeded():
    """What the tests are run by may ignore signals, as nohup does, and then so do they."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in stopping.ASKING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", stopping.ASKING)
def test_a_signal_stops_the_work_where_it_stands(number):
    before = [signal.getsignal(each) for each in stopping.ASKING]
    assert stopped(lambda: send(number)) == number
    assert [signal.getsignal(each) for each in stopping.ASKING] == before


def test_work_that_is_to_be_finished_is_finished_first():
    done = []

    def work():
        with finishing():
            send(signal.SIGTERM)
            assert stopping.wanted()
            with pytest.raises(Stopped):
                stopping.check()
            done.append("all")
        done.append("more")

    assert stopped(work) == signal.SIGTERM
    assert done == ["all"]


def test_a_signal_that_is_ignored_stays_ignored():
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with listening():
            send(signal.SIGHUP)
            stopping.check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_that_a_library_swallows_is_raised_again():
    def work():
        with suppress(BaseException):
            send(signal.SIGTERM)
        stopping.check()

    assert stopped(work) == signal.SIGTERM


def test_nothing_is_installed_in_another_thread_or_by_an_import():
    said = []

    def other():
        with listening():
            said.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    code = """
import signal
before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
import unlearn.api
assert before == [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert said == [signal.SIG_DFL]


def test_a_second_ctrl_c_ends_at_once():
    """Even where the work that is to be finished first takes long."""
    code = """
import os, signal, time
from unlearn.system.stopping import finishing, listening
with listening(), finishing():
    os.kill(os.getpid(), signal.SIGINT)
    print("asked", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "asked\n"
        time.sleep(2 * stopping.ECHO)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_a_signal_that_a_wrapper_passes_on_twice_is_one():
    def work():
        with finishing():
            send(signal.SIGINT)
            send(signal.SIGINT)
            send(signal.SIGTERM)

    assert stopped(work) == signal.SIGINT


def training(context, companions=None, stop=None, loss=lambda weight, _step: weight.square().sum()):
    """Six steps on one weight; returns it, and the steps that were begun."""
    weight, seen = nn.Parameter(torch.tensor([3.0, -2.0])), []

    def each(step):
        seen.append(step)
        if step == stop:
            send(signal.SIGTERM)
        return loss(weight, step)

    try:
        with listening():
            fit(Selection({"w": weight}), each, 6, Optimizer(lr=0.1), context, companions)
    except Stopped:
        assert stop is not None
    return weight.detach(), seen


def test_a_training_that_is_stopped_keeps_the_step_in_hand(context):
    _, seen = training(context, stop=3)
    assert seen == [0, 1, 2, 3]
    assert len(torch.load(context.scratch / "checkpoint.pt", weights_only=True)["history"]) == 4
    resumed, seen = training(context)
    assert seen == [4, 5]
    (context.scratch / "checkpoint.pt").unlink()
    undisturbed, _ = training(context)
    assert torch.equal(resumed, undisturbed)


def test_a_stop_while_a_step_draws_images_keeps_the_steps_before(context):
    """Drawing looks at every step of the loop whether it is to stop."""

    def loss(weight, step):
        if step == 3:
            stopping.check()
        return weight.square().sum()

    _, seen = training(context, stop=3, loss=loss)
    assert seen == [0, 1, 2, 3]
    assert len(torch.load(context.scratch / "checkpoint.pt", weights_only=True)["history"]) == 3


def test_a_stop_within_a_step_keeps_no_companion_that_is_half_trained(context):
    companion = nn.Linear(2, 1)

    def loss(weight, step):
        with torch.no_grad():
            companion.weight += 1
        if step == 3:
            stopping.check()
        return weight.square().sum()

    training(context, {"player": companion}, stop=3, loss=loss)
    assert not (context.scratch / "checkpoint.pt").exists()


def test_images_that_are_being_written_are_written(tiny, tmp_path, monkeypatch):
    from unlearn.concepts import images
    from unlearn.concepts.concept import PromptSet
    from unlearn.models.sampling import Sampler
    from unlearn.pipeline import drawing

    sampler = Sampler(scheduler="ddim", steps=2, guidance=1.0, resolution=32, batch_size=3)
    prompts = PromptSet("plain", ("a cat",) * 5, tuple(range(5)), ("",) * 5, ("red",) * 5)
    write, left = images.write_image, [2]

    def interrupted(path, image):
        left[0] -= 1
        if left[0] == 0:
            send(signal.SIGTERM)
        write(path, image)

    monkeypatch.setattr(drawing, "write_image", interrupted)
    with pytest.raises(Stopped), listening():
        drawing.draw_missing(tiny, prompts, sampler, None, tmp_path, "plain")
    assert len(list(tmp_path.glob("*.png"))) == 3


@dataclass
class Resumed:
    """Goes on behind its first step, of which it logs what it measures at its end."""

    def erase(self, _model, _concepts, context):
        context.log({"loss": 1.0}, 1)
        context.log({"condition": 3.0}, 0)
        return Erasure(history=[{"step": 0, "loss": 2.0, "condition": 3.0}, {"step": 1, "loss": 1.0}])


def test_a_training_that_goes_on_tells_all_of_its_first_part(tmp_path):
    from unlearn.pipeline.erasing import erase
    from unlearn.store.artifacts import Store

    class Source:
        card, device = None, "cpu"

        def __call__(self):
            return SimpleNamespace(forwards=0, named_parameters=lambda: iter(()))

        def identity(self):
            return {}

    told = []
    tracking = SimpleNamespace(
        log=lambda _stage, values, step: told.extend((step, *each) for each in values.items())
    )
    erase(Resumed(), [{}], 0, Source(), Store(tmp_path), tracking)
    assert sorted(told) == [(0, "condition", 3.0), (0, "loss", 2.0), (1, "loss", 1.0)]


@pytest.fixture
def unlearn(tiny_folder, tmp_path):
    """Starts a small run in an empty folder; a signal is said hits a step of its training."""
    small = [f"method.{key}=4" for key in ("steps", "batch_size")]
    words = [
        *RUN,
        "concept=red",
        f"model.source={tiny_folder}",
        "method=esd",
        *small,
        "method.states=2",
        "method.sampler.steps=2",
    ]

    def call(*more, signalled="", command=()):
        environment = {**os.environ, "SMALL_WORLD_SIGNAL": signalled, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command or [sys.executable, PROGRAM, *words, *more],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return call


def lasting(folder):
    """What a run ends with, but for times and places."""
    (path,) = folder.glob("outputs/runs/*/results.json")
    found = json.loads(path.read_text())
    return {
        key: {name: found["artifacts"][name]["fingerprint"] for name in found["artifacts"]}
        if key == "artifacts"
        else found[key]
        for key in ("scores", "artifacts", "warnings")
    }


def test_a_run_that_is_stopped_says_how_it_goes_on_and_loses_nothing(unlearn, tmp_path):
    undisturbed = unlearn("concept.name=a red one")
    assert undisturbed.returncode == 0, undisturbed.stderr
    expected = lasting(tmp_path)
    (tmp_path / "outputs").rename(tmp_path / "undisturbed")
    done = unlearn("concept.name=a red one", signalled="SIGTERM:2")
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    begin = "unlearn: stopped by SIGTERM. Nothing is lost, and this goes on: "
    assert last.startswith(begin)
    (checkpoint,) = tmp_path.glob("outputs/artifacts/scratch/erasure/*/checkpoint.pt")
    assert len(torch.load(checkpoint, weights_only=True)["history"]) == 2
    resumed = unlearn(command=shlex.split(last.removeprefix(begin)))
    assert resumed.returncode == 0, resumed.stderr
    assert lasting(tmp_path) == expected
    (log,) = tmp_path.glob("outputs/runs/*/metrics.jsonl")
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(row["step"] for row in logged if row["stage"] == "erase") == [0, 1, 2, 3]


def test_a_signal_stops_a_whole_sweep(unlearn, tmp_path):
    done = unlearn("-m", "seed=0,1", signalled="SIGINT:2")
    assert done.returncode == 130, done.stderr
    assert "unlearn: stopped by SIGINT." in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("outputs/runs/*/results.json"))
    assert len(list(tmp_path.glob("outputs/artifacts/scratch/erasure/*"))) == 1
