"""What so many images could have told: against known numbers, and by simulation."""

import numpy as np
import pytest

from unlearn.statistics.comparisons import mcnemar_p
from unlearn.statistics.power import detectable_paired, detectable_unpaired, needed_pairs, needed_unpaired


def test_needed_in_each_of_two_sets():
    # As in statsmodels and textbooks: 5 against 10 % needs 435 in each set.
    assert needed_unpaired(0.05, 0.10) == 435
    assert needed_unpaired(0.5, 0.6) == 388


def test_needed_pairs_after_connor():
    # z = 1.96 and .8416: (1.96 sqrt(.3) + .8416 sqrt(.3 - .01))^2 / .01
    assert needed_pairs(0.1, 0.3) == pytest.approx((1.96 * 0.3**0.5 + 0.8416 * 0.29**0.5) ** 2 / 0.01, abs=1)
    assert needed_pairs(-0.1, 0.3) == needed_pairs(0.1, 0.3)


@pytest.mark.parametrize(("difference", "changed"), [(0.1, 0.2), (0.2, 0.3), (0.05, 0.2)])
def test_so_many_pairs_find_it_in_about_80_of_100_cases(difference, changed):
    n = needed_pairs(difference, changed)
    random = np.random.default_rng(0)
    shares = [(changed + difference) / 2, (changed - difference) / 2, 1 - changed]
    drawn = random.multinomial(n, shares, size=1000)
    power = np.mean([mcnemar_p(int(gained), int(lost)) < 0.05 for gained, lost, _ in drawn])
    assert 0.72 < power < 0.86  # the exact test asks for a little more than the formula has it


@pytest.mark.parametrize("n", [8, 20, 64, 500])
def test_what_can_be_seen_and_what_is_needed_agree(n):
    size = detectable_paired(n, 0.2)
    assert (
        needed_pairs(size * 1.001, max(0.2, size * 1.001)) <= n < needed_pairs(size * 0.999, max(0.2, size))
    )
    size = detectable_unpaired(n, 0.9)
    assert needed_unpaired(0.9, 0.9 - size * 1.001) <= n < needed_unpaired(0.9, 0.9 - size * 0.999)


def test_fewer_than_six_pairs_can_show_nothing():
    assert detectable_paired(5, 0.5) is None
    assert detectable_paired(8, 0.0) == pytest.approx(6 / 8, abs=0.001)
    assert detectable_unpaired(2, 0.5) is None


@pytest.mark.parametrize("given", [(0, 0.1), (0.2, 0.1), (0.5, 1.2)])
def test_what_is_no_difference_is_refused(given):
    with pytest.raises(ValueError, match="difference"):
        needed_pairs(*given)
    with pytest.raises(ValueError, match="rates"):
        needed_unpaired(0.2, 0.2)
