"""Numbers that are made of several others, and their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

from unlearn.metrics.score import Measured


def combined(function: Callable[[Sequence[float]], float], parts: Sequence[Measured]) -> Measured:
    r"""A number that is made of others, and how well it is known.

    The variance estimates are recovered from the intervals of the parts: with :math:`f_i` the function where
    one part alone is at an end of its interval, the lower end is

    .. math:: f - \sqrt{\sum_i (f - \min f_i)^2}

    and the upper one likewise.

    References:
        | Construction of confidence limits about effect measures: a general approach (Zou & Donner, 2008)
        | https://doi.org/10.1002/sim.3095

    Arguments:
        function: Of the values of the parts; it must rise or fall in each.
        parts: Numbers that were measured on different images.

    Returns:
        The number; without an interval where a part has none.
    """
    values = [part.value for part in parts]
    value = function(values)
    down = up = 0.0
    for place, part in enumerate(parts):
        if part.interval is None:
            return Measured(value, None)
        ends = [function([*values[:place], end, *values[place + 1 :]]) for end in part.interval]
        down += max(0.0, value - min(ends)) ** 2
        up += max(0.0, max(ends) - value) ** 2
    return Measured(value, (value - sqrt(down), value + sqrt(up)))


def rescaled(number: Measured, factor: float) -> Measured:
    """The number and its interval, times a factor above 0."""
    ends = number.interval
    return Measured(factor * number.value, None if ends is None else (factor * ends[0], factor * ends[1]))
