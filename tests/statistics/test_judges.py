"""A judge's errors, and the agreement of two: by hand and against known formulas."""

from math import sqrt

import pytest

from unlearn.statistics.judges import corrected_rate, kappa, rogan_gladen


def test_a_rate_is_corrected_for_what_the_judge_misses_and_makes_up():
    # Of 100 images 40 truly show it; a judge with .9 and .95 sees 36 of them and 3 of the others.
    value, (low, high) = rogan_gladen(39, 100, (900, 1000), (950, 1000))
    assert value == pytest.approx(0.4)
    assert 0.28 < low < 0.4 < high < 0.52


def test_the_interval_by_hand():
    # Lang and Reiczigel's formulas, written out for 23 of 150, 96 of 100 and 89 of 100.
    z = 1.959963984540054
    p, se, sp = (23 + z**2 / 2) / (150 + z**2), 97 / 102, 90 / 102
    rate = (p + sp - 1) / (se + sp - 1)
    shift = 2 * z**2 * (rate * se * (1 - se) / 102 - (1 - rate) * sp * (1 - sp) / 102)
    inside = (
        p * (1 - p) / (150 + z**2) + (1 - rate) ** 2 * sp * (1 - sp) / 102 + rate**2 * se * (1 - se) / 102
    )
    half = z * sqrt(inside) / (se + sp - 1)
    value, found = rogan_gladen(23, 150, (96, 100), (89, 100))
    assert value == pytest.approx((23 / 150 - 0.11) / 0.85)
    assert found == pytest.approx((max(0, rate + shift - half), rate + shift + half))


def test_a_faultless_judge_with_many_labels_changes_nothing():
    value, (low, high) = rogan_gladen(30, 142, (10**6, 10**6), (10**6, 10**6))
    assert value == pytest.approx(30 / 142)
    # Agresti's and Coull's, which holds Wilson's of 15.2 to 28.6
    assert (low, high) == pytest.approx((0.152, 0.286), abs=0.002)


def test_fewer_labels_give_a_wider_interval():
    wide, narrow = (rogan_gladen(10, 100, (9 * k, 10 * k), (9 * k, 10 * k))[1] for k in (2, 200))
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_it_stays_between_0_and_1_and_holds_its_value():
    for hits in (0, 1, 99, 100):
        value, (low, high) = rogan_gladen(hits, 100, (80, 100), (90, 100))
        assert 0 <= low <= value <= high <= 1


def test_a_judge_no_better_than_chance_corrects_nothing():
    assert rogan_gladen(5, 10, (50, 100), (50, 100)) is None
    assert rogan_gladen(5, 10, (1, 100), (50, 100)) is None


@pytest.mark.parametrize(
    "counts", [(11, 10, (1, 1), (1, 1)), (1, 10, (2, 1), (1, 1)), (1, 10, (1, 1), (0, 0))]
)
def test_what_is_no_count_is_refused(counts):
    with pytest.raises(ValueError, match=r"successes|sensitivity|specificity"):
        rogan_gladen(*counts)


def test_a_corrected_rate_takes_prompts_for_the_unit():
    outcomes = [1] * 24 + [0] * 72
    apart, together = (
        corrected_rate(outcomes, [str(i // k) for i in range(96)], (90, 100), (90, 100)) for k in (1, 4)
    )
    assert apart[0] == together[0] == pytest.approx((0.25 - 0.1) / 0.8)
    assert together[1][0] < apart[1][0] < apart[1][1] < together[1][1]
    assert corrected_rate([1, 0], ["a", "a"], (9, 10), (9, 10)) is None


def judged(both, first, second, neither):
    return [1] * (both + first) + [0] * (second + neither), [1] * both + [0] * first + [1] * second + [
        0
    ] * neither


def test_kappa_is_cohen_s():
    # Agreement .7, .5 of it by chance.
    value, (low, high) = kappa(*judged(20, 5, 10, 15), [str(i) for i in range(50)])
    assert value == pytest.approx(0.4)
    # Its standard error after Fleiss, Cohen and Everitt (1969) is .126.
    assert (high - low) / 2 == pytest.approx(1.96 * 0.126, rel=0.06)


def test_kappa_of_judges_who_agree_on_all_has_a_width():
    value, (low, high) = kappa(*judged(10, 0, 0, 10), [str(i) for i in range(20)])
    assert (value, high) == (1, 1)
    assert 0.6 < low < 0.75


def test_kappa_of_judges_who_contradict_each_other():
    value, (low, _) = kappa(*judged(0, 10, 10, 0), [str(i) for i in range(20)])
    assert value == low == -1


def test_kappa_where_both_always_say_the_same_is_unknown():
    assert kappa([1, 1], [1, 1], ["a", "b"]) is None
    assert kappa([1, 0], [1, 0], ["a", "a"]) is None


def test_kappa_beside_a_judge_who_always_says_the_same():
    value, (low, high) = kappa([1] * 6 + [0] * 6, [1] * 12, [str(i) for i in range(12)])
    assert value == 0
    assert -1 <= low < 0 < high < 1


def test_kappa_takes_prompts_for_the_unit():
    first, second = judged(24, 8, 4, 24)
    apart = kappa(first, second, [str(i) for i in range(60)])
    together = kappa(first, second, [str(i // 4) for i in range(60)])
    assert apart[0] == together[0]
    assert together[1][0] < apart[1][0] < apart[1][1] < together[1][1]
