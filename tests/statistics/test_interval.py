"""Student's t against scipy."""

import pytest
from scipy import stats

from unlearn.statistics.interval import quantile, t_tail


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 101, 1000])
@pytest.mark.parametrize("confidence", [0.1, 0.8, 0.9, 0.95, 0.999])
def test_quantiles(freedom, confidence):
    assert quantile(confidence, freedom) == pytest.approx(
        stats.t.ppf((1 + confidence) / 2, freedom), rel=1e-9
    )
    assert quantile(confidence) == pytest.approx(stats.norm.ppf((1 + confidence) / 2), rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 5, 24])
@pytest.mark.parametrize("t", [-3.0, -0.4, 0.0, 0.7, 2.5, 8.0])
def test_tails(freedom, t):
    assert t_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-6, abs=1e-12)


def test_what_is_no_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        quantile(95)
    with pytest.raises(ValueError, match="freedom"):
        quantile(0.95, 0)
