"""The stages of a run, each a function of what the ones before it made.

A stage asks the store for its artifact and does the work only where there is none. The model is loaded when
the first of them has to: a run that finds everything loads nothing.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target
from unlearn.attacks.checks import Outcome, doubts
from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.config.schemas import RunConfig
from unlearn.errors import ArtifactError
from unlearn.methods.method import Context, Meter
from unlearn.metrics.detection import detections
from unlearn.metrics.metric import Evidence, Metric, Score, pair
from unlearn.models.erasure import Erasure
from unlearn.models.weights.parameters import drift
from unlearn.models.words import Words
from unlearn.pipeline import evaluation
from unlearn.pipeline.memory import accounted
from unlearn.pipeline.networks import identity, used
from unlearn.pipeline.original import Source
from unlearn.store.artifacts import Store, listed, seconds, warned
from unlearn.store.layout import Item, ScoreEntry
from unlearn.store.provenance import made_by
from unlearn.tracking.several import Tracking

COST = "cost.json"


@dataclass(frozen=True)
class Erased:
    """What the method did.

    Attributes:
        erasure: The changes.
        folder: The artifact.
        inputs: All that they depend on.
        cost: ``seconds``, ``forwards`` and ``peak_memory_gib``; and ``drift``, see
            :func:`unlearn.models.weights.parameters.drift`.
    """

    erasure: Erasure
    folder: Path
    inputs: Mapping[str, Any]
    cost: Mapping[str, float | None]


@dataclass(frozen=True)
class Attacked:
    """What the attacks found.

    Attributes:
        found: The prompts, by the attack's name.
        folders: The artifacts.
        guesses: Those of what was found without the erased model, of attacks that do so.
    """

    found: dict[str, AdversarialPrompts] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)
    guesses: dict[str, Path] = field(default_factory=dict)

    def made(self, name: str) -> list[Path]:
        """All artifacts of an attack."""
        return [folders[name] for folders in (self.guesses, self.folders) if name in folders]

    def words(self) -> dict[str, Words]:
        """The words that attacks learned, by the name of their prompt set."""
        learned = {one.prompts.name: Words.load(self.folders[name]) for name, one in self.found.items()}
        return {name: words for name, words in learned.items() if words is not None}


@dataclass(frozen=True)
class Scored:
    """What the metrics say.

    Attributes:
        scores: By their name, as in ``results.json``.
        groups: The same of the prompts of some concepts alone, by the name of their group.
        warnings: Sentences about what makes a number doubtful.
        rows: One for each image, with its path relative to ``root``.
        root: The folder of all artifacts.
        folder: The artifact.
    """

    scores: dict[str, ScoreEntry]
    groups: dict[str, dict[str, ScoreEntry]]
    warnings: list[str]
    rows: list[Item]
    root: Path
    folder: Path

    def items(self, folder: Path) -> list[Item]:
        """The rows with paths relative to ``folder``."""
        prefix = os.path.relpath(self.root, folder)
        return [{**row, "image": f"{prefix}/{row['image']}"} for row in self.rows]


def load(config: RunConfig, store: Store, prompts: Mapping[str, PromptSet]) -> Source:
    """The original model, not loaded yet."""
    texts = [prompt for each in prompts.values() for prompt in each.prompts]
    return Source(config, store, [*config.concepts.erased, *dict.fromkeys(texts)])


def erase(config: RunConfig, store: Store, source: Source, tracking: Tracking) -> list[Erased]:
    """Runs the method, or finds what it did; in a sequence once for each concept, on what the last one left.

    Returns:
        What each step and those before it did to the original model; a single one without a sequence.
    """
    done: list[Erased] = []
    counted = 0
    for concepts in config.steps:
        before = done[-1] if done else None
        done.append(_erase(config, store, source, tracking, concepts, before, counted))
        counted += len(done[-1].erasure.history)
    return done


def _erase(
    config: RunConfig,
    store: Store,
    source: Source,
    tracking: Tracking,
    concepts: ConceptSet,
    before: Erased | None,
    first: int,
) -> Erased:
    """One step, whose history ends up in ``tracking`` either way, counted on from ``first``."""
    inputs = {
        "concepts": concepts,
        "method": config.method,
        "seed": config.seeds.erase,
        "source": source.identity(),
        **made_by(_erase, config.method, concepts),
    }
    if before is not None:
        inputs["after"] = before.folder.name
    logged: dict[int, set[str]] = {}

    def log(values: Mapping[str, float], step: int) -> None:
        logged.setdefault(step, set()).update(values)
        tracking.log("erase", values, first + step)

    def make(folder: Path) -> None:
        model = source()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        if found := store.abandoned("erasure", inputs, "method"):
            print(f"erase: begins anew; unfinished work differs in {listed(found)}.", file=sys.stderr)
        context = Context(
            seed=config.seeds.erase,
            scratch=store.scratch("erasure", inputs),
            log=log,
            progress=sys.stderr.isatty(),
            meter=Meter(model),
        )
        with accounted(config):
            if before is None:
                erasure = config.method.erase(model, concepts, context)
            else:
                erasure = config.method.continued(model, concepts, context, before.erasure)
        cost = context.meter.read() | {"peak_memory_gib": _peak_memory(), "drift": drift(model, erasure)}
        erasure.save(folder)
        (folder / COST).write_text(json.dumps(cost))

    folder = store.once("erasure", inputs, make)
    erasure = Erasure.load(folder)
    for index, row in enumerate(erasure.history):  # of a run that was resumed, or of an earlier one
        step = int(row.get("step", index))
        said = {"step"} | logged.get(step, set())
        if rest := {key: value for key, value in row.items() if key not in said}:
            log(rest, step)
    return Erased(erasure, folder, inputs, _read(folder / COST))


def attack(config: RunConfig, store: Store, source: Source, erased: Erased, plain: PromptSet) -> Attacked:
    """Runs each attack on the erased model, or finds what it found.

    What an attack finds without the erased model is shared by all methods.
    """
    concepts, detectors = config.concepts, config.eval.detectors
    judges = {name: detectors[concept.detector] for name, concept in concepts.erase.items()}
    original = {"concepts": concepts, "source": erased.inputs["source"]}
    attacked = {
        "detectors": {
            name: identity(concept.detector, judges[name]) for name, concept in concepts.erase.items()
        },
        "erased": erased.inputs,
        "sampler": config.model.sampler,
    }

    def target(erasure: Erasure) -> Target:
        return Target(source(), erasure, concepts, judges, config.model.sampler)

    done = Attacked()
    for name, method in config.eval.attacks.items():
        within = method.bounded(config.model.sampler, method.chosen(plain))
        given = (name, within, plain, store, config.seeds.attack)
        guesses = evaluation.guess(*given, partial(target, Erasure()), original)
        if guesses is not None:
            done.guesses[name] = guesses
        done.found[name], done.folders[name] = evaluation.attack(
            *given, partial(target, erased.erasure), attacked, guesses, config.eval.failures
        )
    return done


def generate(
    config: RunConfig,
    store: Store,
    source: Source,
    erased: Erased,
    needed: Iterable[ImageRequest],
    prompts: Mapping[str, PromptSet],
    words: Mapping[str, Words] = MappingProxyType({}),
) -> dict[ImageRequest, ImageSet]:
    """Draws the images that the metrics need, or finds them.

    Arguments:
        words: Learned words that prompts say, by the name of the prompt set.
    """
    sources = {"original": erased.inputs["source"], "erased": erased.inputs}
    return {
        request: evaluation.generate(
            request,
            prompts[request.prompts],
            source,
            erased.erasure,
            config.model.sampler,
            store,
            sources,
            words.get(request.prompts),
        )
        for request in needed
    }


def score(
    config: RunConfig,
    store: Store,
    metrics: Mapping[str, Metric],
    images: Mapping[ImageRequest, ImageSet],
    attacks: Attacked,
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Scored:
    """Takes every metric, or finds what it was.

    Arguments:
        groups: Names of concepts whose prompts are scored by themselves, too, by the name of their group.
    """
    networks = used(config.eval.detectors, config.concepts, metrics.values())
    inputs = {
        "attacks": {name: folder.name for name, folder in attacks.folders.items()},
        "concepts": config.concepts,
        "detectors": {key: identity(key, network) for key, network in networks.items()},
        "failures": config.eval.failures,
        "groups": groups,
        "images": {str(request): drawn.folder.name for request, drawn in images.items()},
        "metrics": metrics,
        "prompts": {str(request): drawn.prompts for request, drawn in images.items()},
        **made_by(score, config.concepts, metrics),
    }

    def make(folder: Path) -> None:
        evidence = Evidence(
            config.concepts,
            images,
            networks,
            config.eval.failures,
            unjudged={ImageRequest(one.prompts.name): one.unjudged for one in attacks.found.values()},
        )
        scores, warnings = evaluation.score(metrics, evidence)
        warnings += _doubts(config.eval.attacks, attacks.found, evidence)
        rows = evaluation.items(images, scores, attacks.found, store.root)
        parts = {group: evaluation.part(metrics, scores, evidence, names) for group, names in groups.items()}
        content = {
            "scores": _plain(scores),
            "groups": {group: _plain(part) for group, part in parts.items()},
            "warnings": warnings,
            "items": rows,
        }
        (folder / "scores.json").write_text(json.dumps(content, ensure_ascii=False, allow_nan=False))

    folder = store.once("scores", inputs, make)
    found = _read(folder / "scores.json")
    return Scored(found["scores"], found["groups"], found["warnings"], found["items"], store.root, folder)


def _doubts(
    attacks: Mapping[str, Attack], found: Mapping[str, AdversarialPrompts], evidence: Evidence
) -> list[str]:
    """What makes the rates of the attacks hard to believe."""
    outcomes, alarms = {}, {}
    for name, one in found.items():
        if (request := ImageRequest(f"attack:{name}")) in evidence.images:
            shown = [None if math.isnan(value) else bool(value) for value in detections(evidence, request)]
            outcomes[name] = Outcome(attacks[name], one, shown)
    _, request = pair("neighbour")
    if outcomes and request in evidence.images:
        everywhere = range(len(evidence.images[request].prompts))
        for name, concept in evidence.concepts.erase.items():
            fired = evidence.shown(request, everywhere, concept.detector, concept.labels)
            alarms[name] = fired.nanmean().item()
    return doubts(outcomes, alarms)


def spent(folders: Iterable[Path]) -> float:
    """Seconds that artifacts took to make, each counted once."""
    return sum(seconds(folder) for folder in dict.fromkeys(folders))


def said(folders: Iterable[Path]) -> list[str]:
    """What was warned of while artifacts were made, each sentence once."""
    return list(dict.fromkeys(text for folder in folders for text in warned(folder)))


def _peak_memory() -> float:
    """Of the GPU since the erasure began, or of the process where there is none, in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: one.to_json() for name, one in scores.items()}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}). Run again with force=true.") from None
