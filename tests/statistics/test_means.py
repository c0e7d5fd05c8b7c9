"""Means over prompts: against scipy, and what they are for."""

import numpy as np
import pytest
import torch
from scipy import stats

from unlearn.statistics.means import mean_interval


def values(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 2


def student(drawn, confidence=0.95):
    expected = stats.ttest_1samp(drawn, 0).confidence_interval(confidence)
    return expected.low, expected.high


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_values_without_skewness_have_student_s_interval(confidence):
    drawn = np.concatenate([3 + (half := values(7).numpy()), 3 - half])
    found = mean_interval(drawn, [str(i) for i in range(14)], confidence)
    assert found == pytest.approx(student(drawn, confidence))


def test_skewed_values_reach_further_on_their_long_side():
    drawn = values(12).exp().numpy()
    low, high = mean_interval(drawn, [str(i) for i in range(12)])
    t_low, t_high = student(drawn)
    assert low == pytest.approx(t_low)
    assert high > t_high + 0.2 * (t_high - t_low)
    # Hall's transformation, taken forwards, leads from there to Student's quantile.
    k, skewness = 12, stats.skew(drawn, bias=False)
    t = (drawn.mean() - high) / (drawn.std(ddof=1) / np.sqrt(k))
    bent = t + skewness / 3 * t**2 / k**0.5 + skewness**2 / 27 * t**3 / k + skewness / 6 / k**0.5
    assert bent == pytest.approx(stats.t.ppf(0.025, 11))
    assert mean_interval(-drawn, [str(i) for i in range(12)]) == pytest.approx((-high, -low))


def test_prompts_count_and_not_images():
    # Ten prompts whose four images are all alike: the interval must be that of ten values, not of forty.
    drawn = values(10)
    alone = mean_interval(drawn, [str(i) for i in range(10)])
    clustered = mean_interval(drawn.repeat_interleave(4), [str(i) for i in range(10) for _ in range(4)])
    assert clustered == pytest.approx(alone)


def test_prompts_with_more_images_weigh_more():
    # By hand: sums 6 and 11 of 2 and 5 values; the mean is 17 / 7, and the sums are off by 8/7 and -8/7.
    drawn, groups = [2.0, 4, 3, 1, 2, 2, 3], list("aaccccc")
    reach = stats.t.ppf(0.975, 1) * np.sqrt(2 * 2 * (8 / 7) ** 2) / 7
    assert mean_interval(drawn, groups) == pytest.approx((17 / 7 - reach, 17 / 7 + reach))


def test_neither_the_order_nor_the_global_state_counts():
    drawn, groups = values(40), [str(i % 13) for i in range(40)]
    torch.manual_seed(5)
    first = mean_interval(drawn, groups)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert mean_interval(drawn[order], [groups[i] for i in order]) == first


def test_a_mean_stays_within_its_bounds():
    free = mean_interval([0.0, 0.1, 1.0], list("abc"))
    assert free[0] < 0 < 2 < free[1]
    assert mean_interval([0.0, 0.1, 1.0], list("abc"), bounds=(0, 2)) == (0, 2)


def test_what_cannot_be_known_is_none():
    assert mean_interval(torch.tensor([1.0, 2, 3]), ["a"] * 3) is None
    assert mean_interval(torch.zeros(4), list("abcd")) is None


def test_as_many_groups_as_values():
    with pytest.raises(ValueError, match="values"):
        mean_interval([1.0, 2.0], ["a"])
