"""Distances against independent implementations."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import linalg

from unlearn.statistics.distances import (
    frechet_distance,
    frechet_to,
    gaussian_kernel,
    pairs_against,
    pairs_of_pairs,
    polynomial_kernel,
)
from unlearn.statistics.jackknife import mean_over_pairs


def features(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 2 + shift


def kernel_distance(x, y, kernel=polynomial_kernel):
    """Of images of as many prompts."""
    return mean_over_pairs(pairs_against(kernel, x, y), [str(i) for i in range(len(x))])[0]


def cmmd_distance(x, y):
    return 1000 * kernel_distance(x, y, gaussian_kernel)


@pytest.mark.parametrize(("n", "m", "d"), [(80, 60, 5), (300, 200, 40), (12, 90, 30), (10, 9, 25)])
def test_frechet_against_scipy(n, m, d):
    x, y = features(n, d, 0), features(m, d, 1, shift=0.5)
    cov_x, cov_y = np.cov(x.T.numpy()), np.cov(y.T.numpy())
    root = linalg.sqrtm(cov_x @ cov_y)
    expected = (x.mean(0) - y.mean(0)).square().sum().item() + np.trace(cov_x + cov_y - 2 * root).real
    # scipy's own root is off by 1e-6 for singular products
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-7)


@pytest.mark.parametrize("n", [2, 10, 50])
def test_frechet_of_a_set_with_itself_is_zero(n):
    assert frechet_distance(features(n, 20, 0), features(n, 20, 0)) == 0


def test_frechet_sees_a_small_shift():
    x = features(50, 20, 0)
    assert frechet_distance(x, x + 0.01) == pytest.approx(20 * 0.01**2, rel=1e-6)


def test_frechet_needs_two():
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(features(1, 3, 0), features(5, 3, 0))


def test_kernel_distance_is_unbiased_where_frechet_is_not():
    pairs = [(features(40, 8, 2 * i), features(40, 8, 2 * i + 1)) for i in range(30)]
    kernel = torch.tensor([kernel_distance(x, y) for x, y in pairs])
    assert abs(kernel.mean()) < 3 * kernel.std() / 30**0.5
    frechet = torch.tensor([frechet_distance(x, y) for x, y in pairs])
    assert frechet.mean() > 3 * frechet.std() / 30**0.5


@pytest.mark.parametrize("kernel", [polynomial_kernel, gaussian_kernel])
def test_kernel_distances_by_hand(kernel):
    """Pair by pair, as their definition has it: without diagonals, and the cross term twice."""
    x, y = features(5, 3, 0), features(4, 3, 1, 0.5)
    k = {(a, b): kernel(p, q) for a, p in (("x", x), ("y", y)) for b, q in (("x", x), ("y", y))}
    xx = np.mean([k["x", "x"][i, j] for i in range(5) for j in range(5) if i != j])
    yy = np.mean([k["y", "y"][i, j] for i in range(4) for j in range(4) if i != j])
    xy = np.mean([k["x", "y"][i, j] for i in range(5) for j in range(4)])
    assert kernel_distance(x, y, kernel) == pytest.approx(xx + yy - 2 * xy, rel=1e-9)
    paired = mean_over_pairs(pairs_of_pairs(kernel, x[:4], y), list("abcd"))[0]
    means = [np.mean([m[i, j] for i in range(4) for j in range(4) if i != j]) for m in k_of(kernel, x[:4], y)]
    assert paired == pytest.approx(means[0] + means[1] - 2 * means[2], rel=1e-9)


def k_of(kernel, x, y):
    return kernel(x, x), kernel(y, y), kernel(x, y)


def test_kernels_by_hand():
    x, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    assert polynomial_kernel(x, y).item() == pytest.approx((1 / 2 + 1) ** 3)
    cosine = 1 / (5**0.5 * 10**0.5)
    assert gaussian_kernel(x, y).item() == pytest.approx(np.exp(-(2 - 2 * cosine) / (2 * 10**2)))


def test_equal_sets_are_at_distance_zero():
    x = features(6, 3, 0)
    assert mean_over_pairs(pairs_of_pairs(polynomial_kernel, x, x), list("abcdef")) == (0, None)


def test_a_reference_of_one_image_is_none():
    with pytest.raises(ValueError, match="at least two"):
        pairs_against(polynomial_kernel, features(4, 3, 0), features(1, 3, 0))


def test_a_fixed_set_is_the_same_set():
    x, y = features(12, 5, 0), features(9, 5, 1)
    assert frechet_to(y)(x) == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_distances_do_not_depend_on_order():
    x, y = features(30, 6, 0), features(40, 6, 1)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    for distance in (frechet_distance, kernel_distance, cmmd_distance):
        assert distance(x[order], y) == pytest.approx(distance(x, y), rel=1e-9)


def test_against_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import poly_mmd

    x, y = features(90, 12, 0), features(90, 12, 1, 0.3)
    as_they_are = torch.nn.Identity()
    as_they_are.num_features = 12
    theirs = FrechetInceptionDistance(feature=as_they_are)
    theirs.update(x, real=True)
    theirs.update(y, real=False)
    assert frechet_distance(x, y) == pytest.approx(theirs.compute().item(), rel=1e-8)
    assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), rel=1e-8)


@pytest.mark.golden
def test_against_golden_outputs(golden):
    case = json.loads((golden / "metrics" / "distribution.json").read_text())
    tensors, expected = load_file(golden / "metrics" / case["tensors_file"]), case["outputs"]
    real, drawn = tensors["feat_real"], tensors["feat_gen"]
    rel = case["tolerance"]["fid_*"]["tol"]
    for name in ("fid_torch_fidelity", "fid_scipy_sqrtm", "fid_torchmetrics", "fid_clean_fid"):
        assert frechet_distance(real, drawn) == pytest.approx(expected[name], rel=rel)
    n = min(len(real), len(drawn))
    found = kernel_distance(real[:n], drawn[:n])
    name = next(name for name in expected if name.startswith("kid_poly_mmd"))
    assert found == pytest.approx(expected[name], rel=case["tolerance"]["kid_*"]["tol"])
    subsets, size = case["inputs"]["kid_subsets"], case["inputs"]["kid_subset_size"]
    random = np.random.RandomState(case["inputs"]["torch_fidelity_rng_seed"])
    blocks = []
    for _ in range(subsets):
        x, y = (rows[random.choice(len(rows), size, replace=False)] for rows in (real, drawn))
        blocks.append(kernel_distance(x, y))
    subset_mean = expected["kid_torch_fidelity_subsets"]["kernel_inception_distance_mean"]
    assert np.mean(blocks) == pytest.approx(subset_mean, rel=case["tolerance"]["kid_*"]["tol"])
    x, y = tensors["clip_real"], tensors["clip_gen"]
    inside = gaussian_kernel(x, x).mean() + gaussian_kernel(y, y).mean()
    cmmd = 1000 * (inside - 2 * gaussian_kernel(x, y).mean()).item()
    assert cmmd == pytest.approx(expected["cmmd_google_float64"], rel=case["tolerance"]["cmmd_*"]["tol"])
