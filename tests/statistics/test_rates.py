"""Rates, their differences and ratios: against scipy, against what papers print, and what they are for."""

from math import sqrt

import pytest
import torch
from scipy import stats

from unlearn.statistics.rates import (
    rate_difference_interval,
    rate_interval,
    ratio_interval,
    wilson_interval,
)


def names(prompts, seeds=1):
    """Of so many prompts, each with so many images in a row."""
    return [str(i) for i in range(prompts) for _ in range(seeds)]


def pairs(both, gained, lost, neither):
    """Outcomes after and before."""
    after = [1] * (both + gained) + [0] * (lost + neither)
    return after, [1] * both + [0] * gained + [1] * lost + [0] * neither


def within(interval):
    assert interval is not None
    low, high = interval
    assert low < high
    return low, high


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


def test_rates_of_single_prompts_are_wilson_s():
    outcomes = torch.tensor([1.0, 0, 0, 1, 0])
    assert rate_interval(outcomes, list("abcde")) == wilson_interval(2, 5)


def test_images_of_a_prompt_that_are_all_alike_count_once():
    # Of 24 prompts with 4 images each, 6 always show it: no more is known than from 24 images.
    alike = rate_interval([1] * 24 + [0] * 72, names(24, 4))
    assert alike == pytest.approx(wilson_interval(6, 24, stats.t.ppf(0.975, 23)), abs=1e-9)


def test_images_that_are_as_mixed_within_prompts_as_between_count_nearly_one_by_one():
    # A quarter of the images of each prompt: the correlation is 0, and its error 1 / sqrt(72).
    mixed = within(rate_interval([1, 0, 0, 0] * 24, names(24, 4)))
    n = 96 / (1 + 3 * sqrt(2 / (4 * 3 * 24)))
    assert mixed == pytest.approx(wilson_interval(n / 4, n, stats.t.ppf(0.975, 23)), abs=1e-9)


def test_prompts_may_have_any_number_of_images():
    groups = ["a", "a", "a", "b", "b", "c", "d", "d", "d", "d"]
    low, high = within(rate_interval([1, 1, 0, 0, 0, 1, 0, 0, 1, 0], groups))
    assert 0 < low < 0.4 < high < 1
    order = [9, 3, 0, 5, 1, 7, 2, 8, 4, 6]
    turned = rate_interval([[1, 1, 0, 0, 0, 1, 0, 0, 1, 0][i] for i in order], [groups[i] for i in order])
    assert turned == (low, high)


def test_where_all_images_are_alike_prompts_count():
    # Clopper and Pearson: with a rate of .3085 one of 8 prompts would show it in 97.5 % of all draws.
    most = stats.binomtest(0, 8).proportion_ci(method="exact").high
    assert rate_interval([0] * 64, names(8, 8)) == pytest.approx((0, most))
    assert rate_interval([1] * 64, names(8, 8)) == pytest.approx((1 - most, 1))


def test_a_rate_of_one_prompt_is_unknown():
    assert rate_interval([1, 0, 1], ["a"] * 3) is None
    assert rate_difference_interval([1, 0], [1, 1], ["a"] * 2) is None
    assert ratio_interval([1, 0], [1, 1], ["a"] * 2) is None


def test_a_difference_is_newcombe_s():
    # Statistics with Confidence (Altman et al., 2000), chapter 6: 12.2 %, 95 % from 1.1 to 22.6.
    low, high = within(rate_difference_interval(*pairs(14, 5, 0, 22), names(41)))
    assert (100 * low, 100 * high) == pytest.approx((1.1, 22.6), abs=0.05)


def by_hand(both, gained, lost, neither):
    """Newcombe's tenth method as the paper writes it, on counts."""
    n = both + gained + lost + neither
    p, q = (both + gained) / n, (both + lost) / n
    (lp, hp), (lq, hq) = wilson_interval(both + gained, n), wilson_interval(both + lost, n)
    product = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = both * neither - gained * lost
    phi = 0 if product == 0 else (max(cross - n / 2, 0) if cross > 0 else cross) / sqrt(product)
    down = sqrt((p - lp) ** 2 - 2 * phi * (p - lp) * (hq - q) + (hq - q) ** 2)
    up = sqrt((hp - p) ** 2 - 2 * phi * (hp - p) * (q - lq) + (q - lq) ** 2)
    return p - q - down, p - q + up


@pytest.mark.parametrize(
    "counts", [(36, 12, 2, 0), (2, 1, 30, 7), (0, 9, 8, 0), (53, 0, 0, 1), (50, 1, 1, 2)]
)
def test_a_difference_against_the_counts_of_the_paper(counts):
    found = rate_difference_interval(*pairs(*counts), names(sum(counts)))
    assert found == pytest.approx(by_hand(*counts), abs=1e-12)


def test_where_nothing_changed_a_difference_is_not_certain():
    low, high = within(rate_difference_interval([1] * 16, [1] * 16, names(16)))
    assert (low, high) == pytest.approx((-(1 - wilson_interval(16, 16)[0]), 1 - wilson_interval(16, 16)[0]))
    clustered = within(rate_difference_interval([1] * 64, [1] * 64, names(16, 4)))
    assert clustered[0] < low < 0 < high < clustered[1], (
        "64 images of 16 prompts tell no more than 16 prompts"
    )


def test_where_all_changed_a_difference_is_not_certain():
    low, high = within(rate_difference_interval([0] * 16, [1] * 16, names(16)))
    assert low == -1
    assert -0.8 < high < -0.6


def test_a_difference_is_after_minus_before():
    after, before = pairs(2, 0, 14, 8)
    low, high = within(rate_difference_interval(after, before, names(24)))
    assert high < 0
    assert rate_difference_interval(before, after, names(24)) == pytest.approx((-high, -low))


def test_a_ratio_holds_where_nothing_is_left_and_where_nothing_changed():
    gone = within(ratio_interval(*pairs(0, 0, 24, 0), names(24)))
    assert gone[1] == 1
    assert 0.8 < gone[0] < 0.9
    same = within(ratio_interval(*pairs(20, 0, 0, 4), names(24)))
    assert same[0] < 0 < same[1]
    assert ratio_interval([0, 1], [0, 0], ["a", "b"]) is None, "of nothing no share can be gone"


def test_a_ratio_agrees_with_its_difference_about_no_change():
    for counts in ((20, 1, 8, 3), (20, 1, 5, 3), (20, 0, 2, 3), (3, 12, 2, 4), (10, 4, 9, 5)):
        low, high = within(rate_difference_interval(*pairs(*counts), names(sum(counts))))
        least, most = within(ratio_interval(*pairs(*counts), names(sum(counts))))
        assert (low <= 0 <= high) == (least <= 0 <= most)


def test_a_ratio_of_many_is_that_of_the_delta_method():
    both, gained, lost, neither = 1000, 200, 4000, 2800
    n, p, q = 8000, 1200 / 8000, 5000 / 8000
    variance = (p / q) ** 2 * ((1 - p) / p + (1 - q) / q - 2 * (both / n - p * q) / (p * q)) / n
    low, high = within(ratio_interval(*pairs(both, gained, lost, neither), names(n)))
    assert (low + high) / 2 == pytest.approx(1 - p / q, abs=2e-3)
    assert (high - low) / 2 == pytest.approx(1.96 * sqrt(variance), rel=0.02)


def test_intervals_grow_with_their_confidence():
    after, before = pairs(10, 2, 9, 3)
    for interval in (rate_difference_interval, ratio_interval):
        narrow, wide = (within(interval(after, before, names(6, 4), level)) for level in (0.8, 0.99))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]
