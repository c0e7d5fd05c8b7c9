"""Formulas against independent implementations."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import linalg, stats

from unlearn.statistics.comparisons import mcnemar_p
from unlearn.statistics.distances import (
    cmmd_distance,
    frechet_distance,
    half_sample_deviation,
    kernel_distance,
)
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval, wilson_interval
from unlearn.statistics.similarity import clip_similarity


def features(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 2 + shift


@pytest.mark.parametrize("n", [1, 7, 50, 142, 4703])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.97, 1])
def test_wilson_against_scipy(n, share):
    k = round(share * n)
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_interval(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(30, 142, 15.2, 28.6), (16, 50, 20.8, 45.8), (0, 50, 0, 7.1), (12, 931, 0.7, 2.2)],
)
def test_wilson_against_known_values(k, n, low, high):
    assert wilson_interval(k, n) == pytest.approx((low / 100, high / 100), abs=6e-4)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_what_is_no_rate(k, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(k, n)


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (1, 0), (2, 2), (3, 4), (4, 18), (26, 5), (200, 150)])
def test_mcnemar_against_scipy(gained, lost):
    expected = stats.binomtest(gained, gained + lost).pvalue
    assert mcnemar_p(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_what_nowhere_differs():
    assert mcnemar_p(0, 0) == 1


def test_bootstrap_of_single_values_is_that_of_scipy():
    values = features(60, 1, 0).flatten()
    expected = stats.bootstrap((values.numpy(),), np.mean, method="percentile", rng=np.random.default_rng(1))
    found = mean_interval(values, [str(i) for i in range(60)])
    assert found == pytest.approx(tuple(expected.confidence_interval), abs=0.05)


def test_bootstrap_draws_prompts_and_not_images():
    # Ten prompts whose four images are all alike: the interval must be that of ten values, not of forty.
    means = features(10, 1, 0).flatten()
    alone = mean_interval(means, [str(i) for i in range(10)])
    clustered = mean_interval(means.repeat_interleave(4), [str(i) for i in range(10) for _ in range(4)])
    assert clustered == pytest.approx(alone)
    apart = mean_interval(means.repeat_interleave(4), [str(i) for i in range(40)])
    assert apart[1] - apart[0] < 0.7 * (alone[1] - alone[0])


def test_bootstrap_does_not_depend_on_order_nor_on_the_global_state():
    values, groups = features(40, 1, 0).flatten(), [str(i % 13) for i in range(40)]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    first = mean_interval(values, groups)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert mean_interval(values[order], [groups[i] for i in order]) == first


def test_interval_of_one_prompt_is_unknown():
    assert mean_interval(torch.ones(3), ["a"] * 3) is None


def test_rates_use_wilson_where_prompts_are_single():
    outcomes = torch.tensor([1.0, 0, 0, 1, 0])
    assert rate_interval(outcomes, list("abcde")) == wilson_interval(2, 5)
    assert rate_interval(outcomes, list("aabbc")) == mean_interval(outcomes, list("aabbc"))
    # Twelve zeros of three prompts are no better known than three zeros.
    assert rate_interval(torch.zeros(12), list("abc") * 4) == wilson_interval(0, 3)


def test_a_difference_of_all_pairs_is_not_certain():
    groups = [str(i) for i in range(16)]
    low, high = rate_difference_interval(torch.full((16,), -1.0), groups)
    assert low == -1
    assert high == pytest.approx(-wilson_interval(16, 16)[0])
    assert rate_difference_interval(torch.zeros(16), groups) == (0, 0)


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


def test_half_samples_give_the_deviation_of_a_mean():
    values = features(200, 1, 0).flatten()
    found = half_sample_deviation(lambda index: values[index].mean().item(), [str(i) for i in range(200)])
    assert found == pytest.approx(values.std().item() / 200**0.5, rel=0.25)
    assert half_sample_deviation(lambda _: 0.0, list("abc")) is None


def test_clip_similarity_is_the_cosine_and_not_clamped():
    x, y = torch.tensor([[3.0, 0], [1, 1]]), torch.tensor([[-2.0, 0], [1, 0]])
    torch.testing.assert_close(clip_similarity(x, y), torch.tensor([-1, 0.5**0.5], dtype=torch.double))


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
    cmmd = cmmd_distance(tensors["clip_real"], tensors["clip_gen"])
    assert cmmd == pytest.approx(expected["cmmd_google_float64"], rel=case["tolerance"]["cmmd_*"]["tol"])
