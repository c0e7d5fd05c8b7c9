"""What an interval is."""

from __future__ import annotations

Interval = tuple[float, float]
"""Both ends, at 95 %."""

Z = 1.959963984540054
"""The standard normal distribution's 97.5 % quantile."""
