"""Batches that do not fit into memory."""

from __future__ import annotations

import errno

import pytest
import torch

from unlearn.attacks.fitting import Fitting

#: What devices and libraries say where memory does not suffice.
SHORT = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory"),
    "windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "c++": MemoryError("std::bad_alloc"),
    "onnxruntime": RuntimeError("std::bad_alloc"),
    "python": MemoryError(),
    "system": OSError(errno.ENOMEM, "Cannot allocate memory"),
}


@pytest.mark.parametrize("error", SHORT.values(), ids=SHORT)
def test_halves_until_it_fits_and_says_so(error, capsys):
    sizes = []

    def work(part):
        sizes.append(len(part))
        if len(part) > 2:
            raise error
        return [10 * each for each in part]

    together = Fitting(9)
    found = [result for results in together.over(range(9), work) for result in results]
    assert found == [10 * i for i in range(9)]
    assert sizes == [9, 4, 2, 2, 2, 2, 1]
    list(together.over(range(4), work))  # what is known now is not tried again
    assert sizes[7:] == [2, 2]
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "attack: out of memory with 9 at once; goes on with 4.",
        "attack: out of memory with 4 at once; goes on with 2.",
    ]


def test_an_allocation_that_fails_here_is_known():
    def work(part):
        return torch.empty(2**46) if len(part) > 1 else part

    assert [list(part) for part in Fitting(2).over([1, 2], work)] == [[1], [2]]


def test_one_that_does_not_fit_and_other_errors_are_raised():
    def work(part):
        raise RuntimeError("out of memory" if len(part) == 1 else "out of memory, too")

    with pytest.raises(RuntimeError, match=r"out of memory$"):
        list(Fitting(3).over([1, 2, 3], work))

    def wrong(_part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Fitting(3).over([1, 2, 3], wrong))
