"""Means over several erasures: by hand, and what their spread is made of."""

import numpy as np
import pytest
from scipy import stats

from unlearn.statistics.rates import rate_interval, wilson_interval
from unlearn.statistics.seeds import over_seeds

PROMPTS = ["a", "b", "c", "d"]


def test_the_split_of_a_table_by_hand():
    # Rows 1, 2 and 6 and columns 0, 0, 3 and 3 added up: no residue.
    cells = np.array([[1, 1, 4, 4], [2, 2, 5, 5], [6, 6, 9, 9]], dtype=float)
    found = over_seeds(cells, [PROMPTS] * 3)
    assert found.value == pytest.approx(4.5)
    assert found.split.seed == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert found.split.prompt == pytest.approx(np.std([0, 0, 3, 3], ddof=1))
    assert found.split.residue == pytest.approx(0)
    # Mean squares 4 * 7 and 3 * 3; Satterthwaite gives (28 + 9)^2 / (28^2 / 2 + 9^2 / 3) degrees of freedom.
    assert int(37**2 / (28**2 / 2 + 9**2 / 3)) == 3
    reach = stats.t.ppf(0.975, 3) * np.sqrt(37 / 12)
    assert found.interval == pytest.approx((4.5 - reach, 4.5 + reach))


def test_the_split_is_found_again():
    random = np.random.default_rng(0)
    a, b = 40, 60
    cells = 0.5 * random.standard_normal((a, 1)) + 2 * random.standard_normal((1, b))
    cells = cells + random.standard_normal((a, b))
    split = over_seeds(cells, [[str(i) for i in range(b)]] * a).split
    assert split.seed == pytest.approx(0.5, rel=0.3)
    assert split.prompt == pytest.approx(2, rel=0.3)
    assert split.residue == pytest.approx(1, rel=0.1)


def test_seeds_that_do_not_differ_add_nothing():
    values = np.random.default_rng(1).standard_normal(12)
    found = over_seeds([values] * 3, [[str(i) for i in range(12)]] * 3)
    assert found.split.seed == 0
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))


def test_seeds_that_differ_widen_the_interval():
    values = np.random.default_rng(1).standard_normal(12)
    prompts = [[str(i) for i in range(12)]] * 3
    (low, high), (lower, higher) = (
        over_seeds([values - by, values, values + by], prompts).interval for by in (0, 1)
    )
    assert lower < low < high < higher


def test_rates_stay_between_0_and_1():
    found = over_seeds([[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1]], [PROMPTS] * 3, rate=True)
    assert found.value == pytest.approx(2 / 12)
    assert 0 < found.interval[0] < 2 / 12 < found.interval[1] < 1
    assert found.interval[1] > wilson_interval(2, 12)[1], (
        "twelve images of four prompts are no twelve prompts"
    )


def test_rates_that_are_all_alike_have_the_interval_of_their_prompts():
    prompts = [*PROMPTS, *PROMPTS]
    found = over_seeds([[0] * 8] * 2, [prompts] * 2, rate=True)
    assert found.interval == pytest.approx(rate_interval([0] * 8, prompts))
    assert over_seeds([[1] * 8] * 2, [prompts] * 2, rate=True).interval == pytest.approx(
        rate_interval([1] * 8, prompts)
    )


def test_only_prompts_that_all_have_count_and_in_any_order():
    found = over_seeds([[1.0, 2, 9], [3.0, 4, 5]], [["a", "b", "c"], ["b", "a", "d"]])
    assert found.value == pytest.approx(np.mean([1, 2, 3, 4]))


def test_one_seed_or_one_prompt_is_none():
    assert over_seeds([[1.0, 2.0]], [["a", "b"]]) is None
    assert over_seeds([[1.0, 2.0], [1.0, 3.0]], [["a", "a"], ["a", "a"]]) is None
    assert over_seeds([], []) is None
