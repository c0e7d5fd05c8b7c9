"""Who judges the images of a run, and what that depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from unlearn.concepts.concept import ConceptSet
from unlearn.detectors.detector import Detector, Network
from unlearn.errors import ConfigError
from unlearn.metrics.metric import Metric
from unlearn.store.digests import digest_of
from unlearn.store.provenance import made_by


@dataclass(frozen=True)
class Judging:
    """Who tells whether images show the concepts.

    Attributes:
        concepts: What is erased.
        detectors: Detectors and feature networks, by the name that concepts, models and metrics call them.
        failures: How many images may fail to be scored before the run fails.
        second: Name of a judge that every concept's own is compared with; None for none.
    """

    concepts: ConceptSet
    detectors: Mapping[str, Any]
    failures: int = 0
    second: str | None = None

    def by_concept(self) -> dict[str, Detector]:
        """The detector of each concept."""
        return {name: self.detectors[concept.detector] for name, concept in self.concepts.erase.items()}

    def named(self, names: Iterable[str] = ()) -> dict[str, Network]:
        """The networks that the concepts name, or ``names``; a name may be that of something else."""
        own = {concept.detector for concept in self.concepts.erase.values()}
        return {key: self.detectors[key] for key in sorted(own.union(names) & self.detectors.keys())}

    def used(self, metrics: Iterable[Metric]) -> dict[str, Network]:
        """The networks that the concepts or the metrics name, and the second judge: scores see no others."""
        values = (value for metric in metrics for value in vars(metric).values())
        return self.named(value for value in (*values, self.second) if isinstance(value, str))


def identities(networks: Mapping[str, Network]) -> dict[str, dict[str, Any]]:
    """The :func:`identity` of each network, by its key."""
    return {key: identity(key, network) for key, network in networks.items()}


def identity(key: str, network: Network) -> dict[str, Any]:
    """All that what a network says of an image depends on: settings, weights and code.

    Arguments:
        key: What it is called in ``eval.detectors``.

    Raises:
        ConfigError: If a file of it cannot be read or fetched.
    """
    files = {f"{number} {path.name}": path for number, path in enumerate(network.files)}
    try:
        weights = digest_of(files)
    except OSError as error:
        raise ConfigError(f"eval.detectors.{key}: {error.filename} cannot be read ({error}).") from None
    return {
        "settings": network,
        "version": getattr(network, "version", None),
        "weights": weights,
        **made_by(network),
    }
