"""The jackknife: of means, whose variance is known, and of what is biased in a known way."""

import numpy as np
import pytest
import torch
from scipy import stats

from unlearn.statistics.jackknife import extrapolated, mean_over_pairs
from unlearn.statistics.skewed import around


def drawn(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def names(n, seeds=1):
    return [str(i).zfill(3) for i in range(n) for _ in range(seeds)]


def test_the_mean_of_sums_over_pairs_is_twice_that_of_values():
    x = torch.cat([drawn(8), -drawn(8)])  # no skewness
    value, (low, high) = mean_over_pairs(x[:, None] + x[None, :], names(16))
    assert value == pytest.approx(0)
    expected = stats.ttest_1samp(2 * x.numpy(), 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_no_image_is_paired_with_one_of_its_own_prompt():
    pairs = torch.zeros(4, 4).double()
    pairs[0, 1] = pairs[1, 0] = pairs[2, 2] = 7  # the same prompt, and the same image
    pairs[0, 2] = pairs[2, 0] = 2
    assert mean_over_pairs(pairs, list("aabc"))[0] == pytest.approx(2 * 2 / (16 - 4 - 1 - 1))
    assert mean_over_pairs(pairs, list("abcd"))[0] == pytest.approx((2 * 7 + 2 * 2) / 12)


def test_each_prompt_is_left_out_with_all_its_images():
    x = drawn(12)
    groups = ["a"] * 5 + ["b"] * 2 + ["c"] * 4 + ["d"]
    pairs = x[:, None] * x[None, :]

    def mean(keep):
        kept = [i for i in range(12) if groups[i] != keep]
        both = [(i, j) for i in kept for j in kept if groups[i] != groups[j]]
        return np.mean([pairs[i, j].item() for i, j in both])

    left = np.array([mean(keep) for keep in "abcd"])
    value, interval = mean_over_pairs(pairs, groups)
    error = np.sqrt(3 / 4 * ((left - left.mean()) ** 2).sum())
    assert value == pytest.approx(mean(None))
    assert interval == pytest.approx(around(value, error, left.mean() - left, 0.95))


def test_one_or_two_prompts_have_no_interval():
    value, interval = mean_over_pairs(torch.ones(3, 3), ["a"] * 3)
    assert np.isnan(value)
    assert interval is None
    assert mean_over_pairs(torch.ones(2, 2), ["a", "b"]) == (1, None)


def test_a_bias_of_one_over_n_is_taken_away():
    x = drawn(40).numpy() + 3

    def biased(index):
        return float(x[index].mean() + 5 / len(index))

    value, (low, high) = extrapolated(biased, names(40))
    assert value == pytest.approx(x.mean())
    assert biased(torch.arange(40)) == pytest.approx(x.mean() + 0.125)
    # Twenty parts of two: as far as their means spread.
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 19) * x.std(ddof=1) / 40**0.5, rel=0.4)


def test_what_is_left_out_are_prompts():
    seen = []

    def count(index):
        seen.append(set(index.tolist()))
        return float(len(index))

    extrapolated(count, names(5, 3))
    assert len(seen) == 6
    assert all(len({i // 3 for i in kept}) == 4 and len(kept) == 12 for kept in seen[1:])
    assert extrapolated(count, names(2))[1] is None
