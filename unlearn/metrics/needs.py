"""Which images metrics need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.metrics.metric import Metric


def expanded(metrics: Mapping[str, Metric], attacks: Sequence[str]) -> dict[str, Metric]:
    """The metrics by the names of their scores: one about attacks becomes one for each attack."""
    return {
        name + suffix: single
        for name, metric in metrics.items()
        for suffix, single in metric.by_attack(attacks).items()
    }


def requests(
    metrics: Mapping[str, Metric], concepts: ConceptSet, attacks: Sequence[str]
) -> list[ImageRequest]:
    """Every image set that some metric needs, each once: the original's first, then by role."""
    order = {name: index for index, name in enumerate((*ROLES, *(f"attack:{attack}" for attack in attacks)))}
    needed = {request for metric in metrics.values() for request in metric.needs(concepts, attacks)}
    return sorted(needed, key=lambda request: (request.model == "erased", order[request.prompts]))
