"""The score that is a mean over images: which numbers it is made of."""

import math

import pytest
import torch

from unlearn.metrics.alignment import CLIPScore
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval

METRIC = CLIPScore(clip="clip", roles=["neighbour"])
NAN = math.nan
PROMPTS = ["a", "a", "b", "b", "c", "c", "d", "d", "e"]
AFTER = torch.tensor([1.0, 0, 0, NAN, 1, 1, 0, 0, 1])
BEFORE = torch.tensor([1.0, 1, 1, 1, 1, NAN, 0, 1, 1])
KEPT = [0, 1, 2, 4, 6, 7, 8]


def kept(values):
    return [values[i] for i in KEPT]


@pytest.mark.parametrize(("unit", "factor"), [("%", 100), ("100 cos", 1)])
def test_what_failed_with_either_model_is_missing_and_takes_no_side(unit, factor):
    score = METRIC.mean_score(AFTER, BEFORE, PROMPTS, unit, {})
    assert (score.n, score.expected, score.failed) == (7, 9, 2)
    assert score.value == pytest.approx(factor * 3 / 7)
    assert score.original.value == pytest.approx(factor * 6 / 7)
    assert score.difference.value == pytest.approx(-factor * 3 / 7)


def test_each_rate_has_its_own_interval_over_its_own_prompts():
    score = METRIC.mean_score(AFTER, BEFORE, PROMPTS, "%", {})
    after, before, prompts = kept(AFTER.tolist()), kept(BEFORE.tolist()), kept(PROMPTS)
    for found, expected in (
        (score.interval, rate_interval(after, prompts)),
        (score.original.interval, rate_interval(before, prompts)),
        (score.difference.interval, rate_difference_interval(after, before, prompts)),
    ):
        assert found == pytest.approx([100 * end for end in expected])
    assert score.interval != pytest.approx(score.original.interval)
    shifted = prompts[-1:] + prompts[:-1]
    assert rate_interval(before, prompts) != pytest.approx(rate_interval(before, shifted))


def test_each_mean_has_its_own_interval_over_its_own_prompts():
    after, before = 20 + 3 * AFTER + torch.arange(9), 22 + BEFORE
    score = METRIC.mean_score(after, before, PROMPTS, "100 cos", {})
    prompts = kept(PROMPTS)
    assert score.interval == pytest.approx(mean_interval(after[KEPT], prompts))
    assert score.original.interval == pytest.approx(mean_interval(before[KEPT], prompts))
    assert score.difference.interval == pytest.approx(mean_interval((after - before)[KEPT], prompts))


def test_where_nothing_could_be_scored_there_is_no_number():
    score = METRIC.mean_score(torch.tensor([NAN, NAN]), None, ["a", "b"], "%", {})
    assert (score.value, score.n, score.expected) == (None, 0, 2)
