"""Embeddings around an embedding."""

from __future__ import annotations

import pytest
import torch

from unlearn.methods.closed_form.realera.neighbours import Shell, root


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("directions", [None, randn(12, 12, seed=7)])
@pytest.mark.parametrize(("low", "high", "distance"), [(0.85, 0.98, 2.0), (-0.1, 0.1, 2.0), (0.2, 0.98, 0.5)])
def test_every_draw_is_within_its_bounds(low, high, distance, directions):
    rows = 28 * randn(5, 12)
    shell = Shell(count=300, cosine=[low, high], distance=distance)
    drawn = shell.around(rows, seeded(), directions)
    assert drawn.shape == (5, 300, 12)
    length = rows.norm(dim=1)[:, None]
    cosine = torch.cosine_similarity(drawn, rows[:, None], dim=-1)
    assert cosine.min() > low - 1e-6
    assert cosine.max() < high + 1e-6
    assert torch.allclose(drawn.norm(dim=-1), length.expand(-1, 300), rtol=1e-12)
    apart = (drawn - rows[:, None]).norm(dim=-1)
    assert torch.allclose(apart, length * (2 - 2 * cosine).sqrt(), rtol=1e-6)
    assert (apart / length).max() < distance + 1e-6
    # The whole range is drawn from, and alike.
    low, high = shell.range
    assert cosine.mean() == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert cosine.square().mean() == pytest.approx(shell.along, abs=0.02)


def test_the_same_generator_gives_the_same_draws_in_any_precision():
    rows, shell = randn(3, 8), Shell(count=4, cosine=[0.5, 0.9])
    first, again = (shell.around(rows, seeded(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.allclose(shell.around(rows.float(), seeded(1)).double(), first, atol=1e-5)
    assert not torch.allclose(shell.around(rows, seeded(2)), first, atol=1e-2)


def test_directions_are_those_of_a_gram_matrix():
    spread = randn(40, 12) @ torch.diag(torch.tensor([5.0, 3.0, *[0.0] * 10], dtype=torch.float64))
    factor = root(spread.T @ spread)
    assert torch.allclose(factor @ factor.T, spread.T @ spread, atol=1e-9)
    row = randn(1, 12)
    drawn = Shell(count=50, cosine=[0.5, 0.9]).around(row, seeded(), factor)[0]
    # Nothing but the row itself and the two directions.
    assert torch.linalg.matrix_rank(torch.cat([row, drawn]), rtol=1e-6) == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": -1}, "count: must be at least 0"),
        ({"cosine": [0.9, 0.8]}, "cosine: must be two numbers from -1 to 1, the lower first"),
        ({"cosine": [0.9]}, "cosine: must be two numbers"),
        ({"distance": 0.0}, "distance: must be a number above 0"),
        ({"distance": 0.1}, r"distance: must be at least 0.2 to allow a cosine of 0.98, got 0.1"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ValueError, match=message):
        Shell(**({"count": 4, "cosine": [0.85, 0.98]} | values))
