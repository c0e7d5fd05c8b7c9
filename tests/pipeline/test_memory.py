"""A device with too little memory: what its user is told."""

from __future__ import annotations

import re

import pytest
import torch

from unlearn.api import configure
from unlearn.cli import explain
from unlearn.errors import UnlearnError
from unlearn.pipeline.erasing import erase
from unlearn.pipeline.memory import accounted, savings
from unlearn.pipeline.original import Source
from unlearn.store.artifacts import Store
from unlearn.tracking.several import Tracking


def config(*words: str):
    return configure("concept=church", "tracker=none", *words)


def less(*words: str) -> list[str]:
    """What would need less memory in a run that is started with ``words``."""
    given = config(*words)
    return savings(given.method, given.model)


def held(*words: str):
    given = config(*words)
    return accounted(given.method, given.model, given.device)


def test_settings_that_need_less_are_named_with_their_values():
    given = ("method.batch_size=7", "method.retain_batch_size=5", "method.attack.draws=3")
    found = less("method=advunlearn", *given)
    assert found[:2] == ["a smaller method.batch_size (now 7)", "a smaller method.retain_batch_size (now 5)"]
    assert "a smaller method.attack.draws (now 3)" in found
    assert "a smaller method.sampler.batch_size (now 32)" in found
    assert found[-1] == "model.checkpointing=true"
    assert found[-2].startswith("model.dtype=float16")


def test_only_settings_that_would_help_are_named():
    spared = ("method=esd", "method.batch_size=1", "model.dtype=bfloat16", "model.checkpointing=true")
    assert less(*spared) == ["a smaller method.sampler.batch_size (now 32)"]
    (closed_form,) = less("method=uce")
    assert closed_form.startswith("model.dtype")
    assert less("method=uce", "model.dtype=float16") == ["a smaller model, or another method"]


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
    RuntimeError("MPS backend out of memory (x)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory"),
    MemoryError("std::bad_alloc"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=repr)
def test_the_error_becomes_one_that_says_what_to_do(error):
    first = re.escape(str(error).splitlines()[0] if str(error) else "MemoryError")
    expected = (
        rf"^erase: out of memory on cpu \({first}\)\. These need less: a smaller method\.batch_size \(now"
    )
    with pytest.raises(UnlearnError, match=expected), held("method=esd", "device=cpu"):
        raise error


@pytest.mark.parametrize("error", SHORT, ids=repr)
def test_the_command_says_it_in_a_line(error, capsys):
    assert explain(error) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unlearn: out of memory (")
    assert line.endswith("A smaller batch_size of the sampler needs less.")


@pytest.mark.parametrize("error", [RuntimeError("another"), ValueError("out of memory"), KeyboardInterrupt()])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, held("method=uce"):
        raise error
    assert caught.value is error


def test_a_run_tells_it(tiny, tmp_path, monkeypatch):
    given = config("method=esd", "device=cpu")

    def erasing(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(given.method), "erase", erasing)
    store = Store(tmp_path)
    source = Source(given.model, "cpu", store, (), tiny)
    with pytest.raises(UnlearnError, match="These need less"):
        erase(given.method, given.steps, 0, source, store, Tracking(()))
