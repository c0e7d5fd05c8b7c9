"""The bench of intervals in a reduced form: every kind covers, and what was before is seen not to."""

from dataclasses import replace
from itertools import islice

import pytest

from scripts.bench.coverage import KINDS, Covered, covered

DRAWS = {"kernels": 40, "fid": 40}
"""Of what takes long; elsewhere 150."""


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_of_every_kind_cover(kind):
    cells = list(islice(KINDS[kind][0](), 2, None, 9))
    draws = DRAWS.get(kind, 150)
    for cell in cells[:4]:
        found = covered(replace(cell, before=None), draws)
        assert not found.out(cell), f"{cell.kind} {cell.label}: {found}"
        assert found.now > 85
        assert found.missing < 60


def test_intervals_that_do_not_cover_are_out_of_bounds():
    """As they were before: of no width where nothing changed, and too short where few images show it."""
    for kind, place in (("difference", 0), ("rate", 31)):
        cell = list(KINDS[kind][0]())[place]
        found = covered(replace(cell, now=cell.before, before=None), 150)
        assert found.now < 85
        assert found.out(cell)


def test_bounds():
    (cell, *_) = (cell for cell in KINDS["rate"][0]() if not cell.edge)

    def out(now, error=0.5, edge=False):
        return Covered(now, error, None, None, 0).out(replace(cell, edge=edge))

    assert out(91.5)
    assert not out(92.5)
    assert not out(99.5)
    assert out(100.0, error=0)
    assert not out(100.0, error=0, edge=True)
    assert out(88, edge=True)
