"""Metrics, by their name in ``conf/metric``."""

from unlearn.metrics.metric import Metric

METRICS: dict[str, type[Metric]] = {}
