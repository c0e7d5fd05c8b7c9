"""Means over prompts: against scipy, and what they are for."""

import numpy as np
import pytest
import torch
from scipy import stats

from unlearn.statistics.means import mean_interval


def values(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 2


def test_single_values_have_student_s_interval():
    drawn = values(9)
    expected = stats.ttest_1samp(drawn.numpy(), 0).confidence_interval(0.95)
    assert mean_interval(drawn, [str(i) for i in range(9)]) == pytest.approx((expected.low, expected.high))


def test_prompts_count_and_not_images():
    # Ten prompts whose four images are all alike: the interval must be that of ten values, not of forty.
    drawn = values(10)
    alone = mean_interval(drawn, [str(i) for i in range(10)])
    clustered = mean_interval(drawn.repeat_interleave(4), [str(i) for i in range(10) for _ in range(4)])
    assert clustered == pytest.approx(alone)


def test_prompts_with_more_images_weigh_more():
    # By hand: sums 6, 3, 8 of 2, 1, 4 values; the mean is 17 / 7, and the sums are off by 8/7, 4/7 and -12/7.
    drawn, groups = [2.0, 4, 3, 1, 2, 2, 3], list("aabcccc")
    error = np.sqrt(3 / 2 * (8**2 + 4**2 + 12**2) / 49) / 7
    reach = stats.t.ppf(0.975, 2) * error
    assert mean_interval(drawn, groups) == pytest.approx((17 / 7 - reach, 17 / 7 + reach))


def test_neither_the_order_nor_the_global_state_counts():
    drawn, groups = values(40), [str(i % 13) for i in range(40)]
    torch.manual_seed(5)
    first = mean_interval(drawn, groups)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert mean_interval(drawn[order], [groups[i] for i in order]) == first


def test_what_cannot_be_known_is_none():
    assert mean_interval(torch.tensor([1.0, 2, 3]), ["a"] * 3) is None
    assert mean_interval(torch.zeros(4), list("abcd")) is None


def test_as_many_groups_as_values():
    with pytest.raises(ValueError, match="values"):
        mean_interval([1.0, 2.0], ["a"])
