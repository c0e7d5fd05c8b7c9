"""The detectors and feature networks of a run: which are in use, and what their numbers depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unlearn.concepts.concept import ConceptSet
from unlearn.detectors.detector import Network
from unlearn.errors import ConfigError
from unlearn.metrics.metric import Metric
from unlearn.store.digests import digest_of
from unlearn.store.provenance import made_by


def judges(concepts: ConceptSet) -> set[str]:
    """Keys of the detectors that tell whether an image shows a concept."""
    return {concept.detector for concept in concepts.erase.values()}


def used(
    detectors: Mapping[str, Network], concepts: ConceptSet, metrics: Iterable[Metric]
) -> dict[str, Network]:
    """The networks that concepts or metrics name, by their key: scores see no others."""
    named = {value for metric in metrics for value in vars(metric).values() if isinstance(value, str)}
    return {key: detectors[key] for key in sorted((judges(concepts) | named) & detectors.keys())}


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
