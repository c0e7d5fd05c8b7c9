"""The closed form against brute force in float64."""

from __future__ import annotations

import pytest
import torch
from method_cases import relative

from unlearn.errors import ConfigError
from unlearn.methods.closed_form.solver import condensed, gram, mean_gram, solve
from unlearn.models.weights.maps import apply_map


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force(weight, erased, targets, retained, s, p, ridge):
    """The minimiser of the sum of squares, from stacked least squares."""
    width = weight.shape[1]
    rows = torch.cat([s**0.5 * erased, p**0.5 * retained, ridge**0.5 * torch.eye(width, dtype=torch.float64)])
    outputs = torch.cat(
        [s**0.5 * targets, p**0.5 * retained, ridge**0.5 * torch.eye(width, dtype=torch.float64)]
    )
    return torch.linalg.lstsq(rows, outputs @ weight.T, driver="gelsd").solution.T


# The first two have fewer rows than dimensions and go through Woodbury, the others through Cholesky.
SHAPES = [(1, 0, 24), (3, 5, 24), (9, 40, 24), (24, 0, 24), (2, 300, 16)]


@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
@pytest.mark.parametrize(("s", "p", "ridge"), [(1.0, 1.0, 0.5), (2.0, 0.1, 0.01)])
def test_map_is_the_least_squares_solution(n, m, d, s, p, ridge):
    erased, targets, retained, weight = (
        randn(n, d),
        randn(n, d, seed=1),
        randn(m, d, seed=2),
        randn(7, d, seed=3),
    )
    matrix = solve(erased, retained, erase_scale=s, preserve_scale=p, ridge=ridge).map(erased, targets)
    assert relative(weight @ matrix, brute_force(weight, erased, targets, retained, s, p, ridge)) < 1e-10


@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_weighted_rows_a_prior_and_a_relative_ridge(n, m, d):
    """Against weighted least squares; TRCE's form of the edit."""
    erased, targets, prior = randn(n, d), randn(n, d, seed=1), randn(50, d, seed=4)
    retained, weight, scales = randn(m, d, seed=2), randn(7, d, seed=3), 0.1 + randn(n, 1, seed=5).square()
    total = (scales.sqrt() * erased).square().sum() + 0.3 * (retained.square().sum() + prior.square().sum())
    expected = brute_force(
        weight,
        scales.sqrt() * erased,
        scales.sqrt() * targets,
        torch.cat([retained, prior]),
        1.0,
        0.3,
        0.01 + 1e-3 * float(total) / d,
    )
    rows, goals = scales.sqrt() * erased, scales.sqrt() * targets
    settings = {"erase_scale": 1.0, "preserve_scale": 0.3, "ridge": 0.01, "relative_ridge": 1e-3}
    matrix = solve(rows, retained, prior=prior.T @ prior, **settings).map(rows, goals)
    assert relative(weight @ matrix, expected) < 1e-10
    through_rows = solve(rows, torch.cat([retained, prior]), **settings).map(rows, goals)
    assert relative(through_rows, matrix) < 1e-10


def test_relative_ridge_is_the_same_with_few_rows():
    rows, targets, retained = randn(2, 24), randn(2, 24, seed=1), randn(3, 24, seed=2)
    absolute = 1e-2 * float(rows.square().sum() + retained.square().sum()) / 24
    settings = {"erase_scale": 1.0, "preserve_scale": 1.0}
    one = solve(rows, retained, ridge=0.0, relative_ridge=1e-2, **settings).map(rows, targets)
    other = solve(rows, retained, ridge=absolute, **settings).map(rows, targets)
    assert relative(one, other) < 1e-12


def test_mean_gram_of_texts(tiny):
    texts = [f"a church and {i} cats" for i in range(40)]
    tokens = tiny.encode(texts).tokens.double()
    assert relative(mean_gram(tiny, texts), torch.einsum("nld,nle->de", tokens, tokens) / 40) < 1e-10


@pytest.mark.parametrize(("n", "m", "d"), SHAPES)
def test_condition_number(n, m, d):
    erased, retained = randn(n, d), randn(m, d, seed=2)
    rows = torch.cat([erased, 0.5**0.5 * retained])
    # The smaller one of two systems with the same solution is solved.
    system = (rows @ rows.T if n + m < d else rows.T @ rows) + 0.3 * torch.eye(min(n + m, d))
    condition = solve(erased, retained, erase_scale=1.0, preserve_scale=0.5, ridge=0.3).condition
    assert condition == pytest.approx(float(torch.linalg.cond(system)), rel=0.05)


def test_one_concept_falls_short_of_its_anchor_by_the_share_of_the_ridge():
    erased, target = randn(1, 12), randn(1, 12, seed=1)
    matrix = solve(erased, erased[:0], erase_scale=2.0, preserve_scale=1.0, ridge=0.5).map(erased, target)
    share = 0.5 / (0.5 + 2.0 * float(erased.square().sum()))
    assert torch.allclose(erased @ matrix.T - target, share * (erased - target), rtol=1e-10, atol=1e-12)


def test_same_anchor_gives_the_identity_exactly():
    erased = randn(3, 12)
    matrix = solve(erased, randn(5, 12, seed=2), erase_scale=1.0, preserve_scale=1.0, ridge=0.1).map(
        erased, erased
    )
    assert torch.equal(matrix, torch.eye(12, dtype=torch.float64))


def test_order_does_not_matter_and_a_repetition_is_a_weight():
    erased, targets, retained = randn(3, 12), randn(3, 12, seed=1), randn(4, 12, seed=2)
    settings = {"erase_scale": 1.0, "preserve_scale": 1.0, "ridge": 0.1}
    matrix = solve(erased, retained, **settings).map(erased, targets)
    turned = solve(erased.flip(0), retained.flip(0), **settings).map(erased.flip(0), targets.flip(0))
    assert relative(turned, matrix) < 1e-12
    twice = solve(erased.repeat(2, 1), retained, **settings).map(erased.repeat(2, 1), targets.repeat(2, 1))
    settings["erase_scale"] = 2.0
    assert relative(twice, solve(erased, retained, **settings).map(erased, targets)) < 1e-12


def test_the_change_has_the_rank_of_the_erased_rows():
    erased, targets = randn(3, 24), randn(3, 24, seed=1)
    matrix = solve(erased, randn(4, 24, seed=2), erase_scale=1.0, preserve_scale=1.0, ridge=0.1).map(
        erased, targets
    )
    assert torch.linalg.matrix_rank(matrix - torch.eye(24), rtol=1e-9) == 3


def test_what_is_retained_hard_stays():
    erased, targets, retained = randn(2, 24), randn(2, 24, seed=1), randn(4, 24, seed=2)
    matrix = solve(erased, retained, erase_scale=1.0, preserve_scale=1e6, ridge=1e-9).map(erased, targets)
    assert relative(retained @ matrix.T, retained) < 1e-5
    assert relative(erased @ matrix.T, targets) < 1e-5


@pytest.mark.parametrize("retained", [randn(2, 12), randn(30, 12)[:, :1] * randn(1, 12)])
def test_singular_systems_are_refused_with_their_condition(retained):
    erased = torch.cat([retained[:1], retained[:1]])
    with pytest.raises(
        ConfigError, match=r"condition number is (inf|[\d.]+e\+\d+) with a ridge of 0.0e\+00, and 1e"
    ):
        solve(erased, retained, erase_scale=1.0, preserve_scale=1.0, ridge=0.0)
    with pytest.raises(ConfigError, match="ill-conditioned"):
        solve(erased, retained, erase_scale=1.0, preserve_scale=1.0, ridge=1e-12)


@pytest.mark.parametrize("width", [1, 3, 8, 30])
def test_gram_of_several_matrices(width):
    matrices = [randn(5000, width).float(), randn(3, width, seed=1).float(), randn(0, width).float()]
    expected = sum(matrix.double().T @ matrix.double() for matrix in matrices)
    assert relative(gram(*matrices), expected) < 1e-14


@pytest.mark.parametrize(("rows", "left"), [(5, 9), (12, 12), (700, 12)])
def test_condensed_rows_have_the_same_gram_matrix(rows, left):
    matrices = [randn(rows, 12).float(), randn(4, 12, seed=1).float() * 1e-3]
    found = condensed(matrices)
    assert found.shape == (left, 12)
    assert found.dtype == torch.float64
    assert relative(gram(found), gram(*matrices)) < 1e-12


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 5e-3)]
)
def test_applying_a_map(dtype, bound):
    matrix = torch.eye(16, dtype=torch.float64) + 0.1 * randn(16, 16)
    weights = [randn(5, 16, seed=1).to(dtype), randn(9, 16, seed=2).to(dtype)]
    expected = [weight.double() @ matrix for weight in weights]
    exact = randn(4, 16, seed=3)
    apply_map([*weights, exact], matrix)
    assert relative(exact, randn(4, 16, seed=3) @ matrix) < 1e-14
    assert all(weight.dtype == dtype for weight in weights)
    assert all(relative(weight, value) < bound for weight, value in zip(weights, expected, strict=True))


def test_float64_survives_what_the_plain_recipe_in_float32_does_not():
    """Nearly parallel rows, as the padding of a prompt gives them."""
    base = 28 * randn(1, 32) / randn(1, 32).norm()
    erased, targets = base + 0.01 * randn(40, 32, seed=1), base + 0.01 * randn(40, 32, seed=2)
    retained, weight, ridge = base + 0.01 * randn(60, 32, seed=3), randn(8, 32, seed=4), 1e-3
    exact = brute_force(weight, erased, targets, retained, 1.0, 1.0, ridge) - weight

    matrix = solve(erased, retained, erase_scale=1.0, preserve_scale=1.0, ridge=ridge).map(erased, targets)
    assert relative(weight @ matrix - weight, exact) < 1e-7

    e, t, r, w = (x.float() for x in (erased, targets, retained, weight))
    left = ridge * w + (t @ w.T).T @ e + (r @ w.T).T @ r
    plain = left @ torch.inverse(ridge * torch.eye(32) + e.T @ e + r.T @ r)
    assert relative(plain - w, exact) > 1e-2
