"""Batches that do not fit into memory."""

from __future__ import annotations

import pytest

from unlearn.attacks.fitting import Fitting


def test_halves_until_it_fits_and_says_so(capsys):
    sizes = []

    def work(part):
        sizes.append(len(part))
        if len(part) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
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


def test_one_that_does_not_fit_and_other_errors_are_raised():
    def work(part):
        raise RuntimeError("out of memory" if len(part) == 1 else "out of memory, too")

    with pytest.raises(RuntimeError, match=r"out of memory$"):
        list(Fitting(3).over([1, 2, 3], work))

    def wrong(_part):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Fitting(3).over([1, 2, 3], wrong))
