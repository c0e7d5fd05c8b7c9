"""Settings that change nothing in a run, because others leave them no part in it.

The values in ``conf/`` are for all worlds, kinds of concepts and modes, so that some of them are always idle.
Who sets one of these for a run would compare the run with itself: :func:`idle` says which they are, and
:mod:`unlearn.config.effects` refuses them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unlearn.concepts.choice import REWORDED
from unlearn.config.schemas import RunConfig
from unlearn.detectors.detector import ImageText
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.distribution import DistributionDistance
from unlearn.metrics.metric import Metric
from unlearn.metrics.needs import expanded, requests
from unlearn.metrics.protocols.counts import LabelCounts
from unlearn.metrics.protocols.erosion import ErosionCurve
from unlearn.metrics.protocols.harmonic import HarmonicMean


def idle(run: RunConfig) -> dict[str, str]:
    """The keys that change nothing, each with all below it, and a sentence that says when they would."""
    found = dict(_seeds(run))
    found |= _method(run)
    for part, components in (("attacks", run.eval.attacks), ("metrics", run.eval.metrics)):
        for name, component in components.items():
            found |= {f"eval.{part}.{name}.{key}": when for key, when in component.idle().items()}
    for parts in (_model, _wordings, _unread, _prompts, _detectors):
        found |= dict(parts(run))
    return found


def _seeds(run: RunConfig) -> Iterator[tuple[str, str]]:
    if not run.method.random:
        yield "seeds.erase", "The method draws nothing at random."
    if not run.eval.resurgence and not any(attack.random for attack in run.eval.attacks.values()):
        yield "seeds.attack", "It counts with attacks or resurgence curves that draw at random."


def _method(run: RunConfig) -> dict[str, str]:
    """What counts in no step of a sequence."""
    steps = [run.method.idle(concepts) for concepts in run.steps]
    return {f"method.{key}": when for key, when in steps[0].items() if all(key in step for step in steps)}


def _model(run: RunConfig) -> Iterator[tuple[str, str]]:
    if run.model.source.startswith("package:") or Path(run.model.source).expanduser().is_dir():
        yield "model.revision", "It counts for a model.source on the hub."


def _wordings(run: RunConfig) -> Iterator[tuple[str, str]]:
    """Wordings for other models, and of concepts that are no part of the run."""
    for world, concepts in run.concept.worlds.items():
        if world != run.model.world:
            yield f"concept.worlds.{world}", f"The world of this model is '{run.model.world}'."
            continue
        for name in concepts.erase:
            key = f"concept.worlds.{world}.erase.{name}"
            if name not in run.concepts.erase:
                yield key, f"It counts with {name} in concept.sequence."
            for field in REWORDED:
                if getattr(run.concept, field) is not None:
                    yield f"{key}.{field}", f"concept.{field} takes its place."


def _unread(run: RunConfig) -> Iterator[tuple[str, str]]:
    """What of the concepts nothing in the run takes into account."""
    readers = [run.method, *run.eval.attacks.values(), *run.eval.resurgence.values()]
    read = frozenset[str]().union(*(reader.reads for reader in readers))
    for name, concept in run.concepts.erase.items():
        own = {"retain", "kind"} if concept.prompts is None else set[str]()  # prompts are made from them
        if concept.templates == ["{}"] and "templates" in read:
            own |= {"kind"}  # which says the sentences then
        for field in sorted({"anchor", "retain", "kind", "templates"} - read - own):
            when = "Neither the method nor an attack or curve of this run reads it."
            yield f"concept.worlds.{run.model.world}.erase.{name}.{field}", when
            if len(run.concepts.erase) == 1 and field in REWORDED:
                yield f"concept.{field}", when
    if len(run.concepts.erase) > 1:
        for field in REWORDED:
            yield f"concept.{field}", "It is for a single concept."


def _prompts(run: RunConfig) -> Iterator[tuple[str, str]]:
    attacks = list(run.eval.attacks)
    needed = {
        request.prompts for request in requests(expanded(run.eval.metrics, attacks), run.concepts, attacks)
    }
    if attacks or run.eval.resurgence:
        needed.add("plain")
    for role in run.eval.prompts:
        if role not in needed:
            yield f"eval.prompts.{role}", f"It counts with a metric of the role '{role}'."
        elif not len(run.concepts.prompt_set(role, run.paths.prompts, split=run.eval.split)):
            yield f"eval.prompts.{role}", f"The concept has no prompts of the role '{role}'."


def _detectors(run: RunConfig) -> Iterator[tuple[str, str]]:
    """Networks that nothing asks, and of CLIPs what matters for decisions only, where they take none."""
    metrics = run.eval.metrics.values()
    judges = {concept.detector for concept in run.concepts.erase.values()} | _substitutes(run)
    judges |= {metric.detector for metric in metrics if isinstance(metric, LabelCounts)}
    networks = {
        getattr(metric, field)
        for metric in metrics
        for field in ("clip", "detector", "features")
        if hasattr(metric, field)
    }
    measuring = [metric for metric in metrics if isinstance(metric, DistributionDistance)]
    compared = {metric.features for metric in measuring if metric.against == "reference"}
    for name, network in run.eval.detectors.items():
        key = f"eval.detectors.{name}"
        if name not in judges | networks:
            yield key, "It counts where a concept or a metric names this detector."
            continue
        if isinstance(network, ImageText) and name not in judges:
            for field in ("threshold", "others", "template"):
                yield f"{key}.{field}", "It counts where this detector decides what an image shows."
        if hasattr(network, "statistics") and name not in compared:
            yield f"{key}.statistics", "It counts with a metric against its reference."


def _substitutes(run: RunConfig) -> set[str]:
    """The CLIPs that are asked for labels that a concept's own detector cannot tell."""
    found: set[str] = set()
    for metric in run.eval.metrics.values():
        for role in _asking(metric):
            prompts = run.concepts.prompt_set(role, run.paths.prompts, split=run.eval.split)
            asked = {
                (name, label) for name, label in zip(prompts.concepts, prompts.shows, strict=True) if label
            }
            if any(not _told(run, name, label) for name, label in asked):
                found.add(metric.clip)
    return found


def _asking(metric: Metric) -> list[str]:
    """The roles in whose images a metric looks for what their prompts ask for."""
    if isinstance(metric, ConceptAccuracy):
        return [metric.role]
    if isinstance(metric, HarmonicMean):
        return metric.kept
    return metric.roles if isinstance(metric, ErosionCurve) else []


def _told(run: RunConfig, name: str, label: str) -> bool:
    told: bool = run.eval.detectors[run.concepts.erase[name].detector].knows(label)
    return told
