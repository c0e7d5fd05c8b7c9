"""Scoring: every metric, over the images that were drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from unlearn.concepts.images import ImageRequest, ImageSet
from unlearn.metrics.agreement import agreement
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import Metric
from unlearn.metrics.score import Score
from unlearn.pipeline.attacking import Attacked
from unlearn.pipeline.doubts import blanks, hard_to_believe
from unlearn.pipeline.judging import Judging, identities
from unlearn.store.artifacts import Store, content
from unlearn.store.layout import AgreementEntry, Item, ScoreEntry
from unlearn.store.provenance import made_by


@dataclass(frozen=True)
class Scored:
    """What the metrics say.

    Attributes:
        scores: By their name, as in ``results.json``.
        groups: The same of the prompts of some concepts alone, by the name of their group.
        warnings: Sentences about what makes a number doubtful.
        agreement: How the judges agree with a second one.
        rows: One for each image, with its path relative to ``root``.
        root: The folder of all artifacts.
        folder: The artifact.
    """

    scores: dict[str, ScoreEntry]
    groups: dict[str, dict[str, ScoreEntry]]
    warnings: list[str]
    agreement: list[AgreementEntry]
    rows: list[Item]
    root: Path
    folder: Path

    def items(self, folder: Path) -> list[Item]:
        """The rows with paths relative to ``folder``."""
        prefix = os.path.relpath(self.root, folder)
        return [{**row, "image": f"{prefix}/{row['image']}"} for row in self.rows]


def score(
    metrics: Mapping[str, Metric],
    images: Mapping[ImageRequest, ImageSet],
    attacks: Mapping[str, Attacked],
    judging: Judging,
    store: Store,
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Scored:
    """Takes every metric, or finds what it was.

    Arguments:
        metrics: By the name of their score.
        attacks: What the attacks found whose images are among ``images``, by name.
        groups: Names of concepts whose prompts are scored by themselves, too, by the name of their group.
    """
    networks = judging.used(metrics.values())
    inputs = {
        "attacks": {name: one.folder.name for name, one in attacks.items()},
        "concepts": judging.concepts,
        "detectors": identities(networks),
        "failures": judging.failures,
        "groups": groups,
        "images": {str(request): drawn.folder.name for request, drawn in images.items()},
        "metrics": metrics,
        "prompts": {str(request): drawn.prompts for request, drawn in images.items()},
        "second": judging.second,
        **made_by(score, judging.concepts, metrics),
    }

    def make(folder: Path) -> None:
        unjudged = {ImageRequest(one.found.prompts.name): one.found.unjudged for one in attacks.values()}
        evidence = Evidence(judging.concepts, images, networks, judging.failures, unjudged=unjudged)
        scores, warnings = values(metrics, evidence)
        agreed = agreement(evidence, judging.second)
        warnings += [one.doubt for one in agreed if one.doubt]
        found = {
            "scores": _plain(scores),
            "groups": {name: _plain(part(metrics, scores, evidence, own)) for name, own in groups.items()},
            "agreement": [asdict(one) for one in agreed],
            "warnings": warnings + hard_to_believe(attacks, evidence),
            "items": items(images, scores, attacks, store.root),
        }
        (folder / "scores.json").write_text(json.dumps(found, ensure_ascii=False, allow_nan=False))

    folder = store.once("scores", inputs, make)
    found = content(folder / "scores.json")
    return Scored(
        found["scores"], found["groups"], found["warnings"], found["agreement"], found["items"], store.root,
        folder,
    )  # fmt: skip


def values(metrics: Mapping[str, Metric], evidence: Evidence) -> tuple[dict[str, Score], list[str]]:
    """Every metric's value.

    Returns:
        The scores that are defined, and sentences about what makes a number doubtful, undefined ones among
        them.
    """
    scores, warnings = {}, blanks(evidence)
    for name, metric in metrics.items():
        found = metric.score(evidence)
        warnings += [f"{name}: {warning}" for warning in found.warnings]
        if found.value is not None:
            scores[name] = found
    return scores, warnings


def part(
    metrics: Mapping[str, Metric], scores: Mapping[str, Score], evidence: Evidence, concepts: Sequence[str]
) -> dict[str, Score]:
    """The scores over the prompts of some concepts alone, as far as they are means over single images.

    Arguments:
        scores: What :func:`values` found.
        concepts: Names of concepts.
    """
    found = {name: metrics[name].part(one, evidence, concepts) for name, one in scores.items()}
    return {name: one for name, one in found.items() if one is not None}


def items(
    images: Mapping[ImageRequest, ImageSet],
    scores: Mapping[str, Score],
    attacks: Mapping[str, Attacked],
    folder: Path,
) -> list[Item]:
    """Each image with what the metrics said of it, as ``items.jsonl`` holds it.

    Arguments:
        attacks: What each attack found, by its name.
        folder: The run folder, which the images' paths are relative to.
    """
    plain = {one.found.prompts.name: one.found.plain for one in attacks.values()}
    found: list[Item] = []
    for request, drawn in images.items():
        said = {name: one.per_image[request] for name, one in scores.items() if request in one.per_image}
        rows = [_item(drawn, index, said, folder) for index in range(len(drawn))]
        if request.prompts in plain:
            for row, prompt in zip(rows, plain[request.prompts], strict=True):
                row["plain"] = prompt
        found += rows
    return found


def _item(drawn: ImageSet, index: int, said: Mapping[str, Sequence[float]], folder: Path) -> Item:
    return {
        "prompts": drawn.request.prompts,
        "model": "original" if drawn.request.model == "original" else "erased",
        "index": index,
        "prompt": drawn.prompts.prompts[index],
        "seed": drawn.prompts.seeds[index],
        "image": os.path.relpath(drawn.path(index), folder),
        "scores": {name: row[index] for name, row in said.items() if row[index] == row[index]},
    }


def _plain(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: one.to_json() for name, one in scores.items()}
