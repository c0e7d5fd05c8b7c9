"""Tests of two, or of several, against scipy and by hand."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from unlearn.statistics.comparisons import holm, mcnemar_p, paired_p, tost, tost_rates
from unlearn.statistics.rates import rate_difference_interval


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (1, 0), (2, 2), (3, 4), (4, 18), (26, 5), (200, 150)])
def test_mcnemar_against_scipy(gained, lost):
    expected = stats.binomtest(gained, gained + lost).pvalue
    assert mcnemar_p(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_what_nowhere_differs():
    assert mcnemar_p(0, 0) == 1


def changes(gained, lost, rest=3):
    return [1] * gained + [0] * lost + [1] * rest, [0] * gained + [1] * lost + [1] * rest


@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (2, 2), (4, 18), (26, 5), (0, 0), (6, 13)])
def test_single_images_have_mcnemar_s_test(gained, lost):
    after, before = changes(gained, lost)
    assert paired_p(after, before, [str(i) for i in range(len(after))]) == pytest.approx(
        mcnemar_p(gained, lost)
    )


def test_images_of_a_prompt_change_together():
    # Six prompts with 4 images each, all lost: 2 of 64 ways are as far, not 2 of 2^24.
    after, before = [0] * 24, [1] * 24
    assert paired_p(after, before, [str(i // 4) for i in range(24)]) == 2 / 64
    assert paired_p(after, before, [str(i) for i in range(24)]) == 2 / 2**24


def test_prompts_of_other_sizes_by_trying_all_ways():
    sizes = [3, -1, 2, 2, -2, 1]
    groups = [str(i) for i, size in enumerate(sizes) for _ in range(abs(size))]
    after = [float(size > 0) for size in sizes for _ in range(abs(size))]
    before = [1 - one for one in after]
    ways = [
        abs(sum(s * abs(n) for s, n in zip(signs, sizes, strict=True)))
        for signs in product((-1, 1), repeat=6)
    ]
    expected = np.mean([way >= abs(sum(sizes)) for way in ways])
    assert paired_p(after, before, groups) == pytest.approx(expected)


def test_holm_by_hand():
    # .01 * 4, .03 * 3, .04 * 2 is less than the one before it, .20 * 1
    assert holm([0.04, 0.01, 0.2, 0.03]) == pytest.approx([0.09, 0.04, 0.2, 0.09])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([]) == []


def two_sided(differences, margin):
    """Both one-sided tests of scipy."""
    below = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    above = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return max(below, above)


@pytest.mark.parametrize("shift", [-0.4, -0.1, 0.0, 0.2, 0.6])
def test_equivalence_of_means_against_scipy(shift):
    differences = np.random.default_rng(0).normal(shift, 0.5, 20)
    found = tost(differences, [str(i) for i in range(20)], 0.3)
    assert found == pytest.approx(two_sided(differences, 0.3), rel=1e-6)


def test_equivalence_takes_prompts_for_the_unit():
    differences = np.random.default_rng(0).normal(0, 0.3, 10)
    found = tost(np.repeat(differences, 4), [str(i) for i in range(10) for _ in range(4)], 0.3)
    assert found == pytest.approx(two_sided(differences, 0.3), rel=1e-6)


def test_equivalence_of_what_is_everywhere_equal():
    assert tost([0.0] * 4, list("abcd"), 0.1) == 0
    assert tost([0.2] * 4, list("abcd"), 0.1) == 1
    assert tost([0.2, 0.1], ["a", "a"], 0.1) is None


def test_rates_are_equivalent_where_their_interval_of_90_percent_is_within_the_margin():
    groups = [str(i) for i in range(60)]
    after, before = [1] * 50 + [0] * 10, [0] + [1] * 50 + [0] * 9
    margin = max(map(abs, rate_difference_interval(after, before, groups, 0.9)))
    assert tost_rates(after, before, groups, margin) == pytest.approx(0.05, abs=1e-6)
    assert tost_rates(after, before, groups, margin / 2) > 0.05
    assert tost_rates(after, before, groups, margin * 2) < 0.01


def test_a_few_prompts_without_a_change_are_not_yet_equivalent():
    assert tost_rates([1] * 8, [1] * 8, list("abcdefgh"), 0.05) > 0.05
    assert tost_rates([1] * 64, [1] * 64, [str(i // 8) for i in range(64)], 0.05) > 0.05
    assert tost_rates([1] * 200, [1] * 200, [str(i) for i in range(200)], 0.05) < 0.05


def test_rates_apart_by_more_than_the_margin_are_not_equivalent():
    assert tost_rates([1, 0, 0, 0], [1, 1, 1, 1], list("abcd"), 0.2) == 1
    assert tost_rates([1, 0], [1, 1], ["a", "a"], 0.9) is None


@pytest.mark.parametrize("margin", [0, -1, float("nan")])
def test_a_margin_is_above_zero(margin):
    with pytest.raises(ValueError, match="margin"):
        tost([0.1, 0.2], ["a", "b"], margin)
    with pytest.raises(ValueError, match="margin"):
        tost_rates([0, 1], [0, 1], ["a", "b"], margin)
