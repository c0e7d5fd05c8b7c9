"""What a run found, put together as ``results.json`` wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.config.schemas import RunConfig
from unlearn.pipeline.curves import Drawn
from unlearn.pipeline.label import Label
from unlearn.pipeline.networks import identity, judges
from unlearn.pipeline.sequence import Step, entries
from unlearn.pipeline.stages import Attacked, said, spent
from unlearn.store.artifacts import fingerprint, made_with
from unlearn.store.environment import environment
from unlearn.store.layout import SCHEMA, Artifact, AttackEntry, Cost, CurveEntry, Making, Results
from unlearn.system.confidential import redacted
from unlearn.system.heard import library_warnings


def assemble(
    config: RunConfig,
    label: Label,
    folder: Path,
    steps: Sequence[Step],
    attacks: Attacked,
    drawn: Mapping[str, Drawn],
    curves: Sequence[CurveEntry],
) -> Results:
    """All of ``results.json``.

    Arguments:
        config: What was run.
        label: What the run is called.
        folder: Its folder, which the artifacts' paths are relative to.
        steps: What was done and what it led to; several of a sequence.
        attacks: What the attacks found.
        drawn, curves: How the concept comes back, and the images of that.
    """
    last = steps[-1]
    images = [one.folder for step in steps for one in step.images.values() if len(one)]
    attacked = [folder for name in attacks.found for folder in attacks.made(name)]
    costs = [step.erased.cost for step in steps]
    peaks = [cost["peak_memory_gib"] for cost in costs if cost["peak_memory_gib"] is not None]
    cost: Cost = {
        "erase_seconds": sum(float(cost["seconds"] or 0.0) for cost in costs),
        "attack_seconds": spent(attacked),
        "generate_seconds": spent(images),
        "score_seconds": spent(step.scored.folder for step in steps),
        "peak_memory_gib": max(peaks, default=None),
        "parameters_changed": sum(weight.numel() for weight in last.erased.erasure.weights.values()),
        "unet_forwards": sum(int(cost["forwards"] or 0) for cost in costs),
    }
    back = [folder for one in drawn.values() for folder in one.folders.values()]
    made = [*(step.erased.folder for step in steps), *attacked, *images, *back]
    artifacts = _artifacts(config, folder, steps, attacks, drawn)
    results: Results = {
        "schema": SCHEMA,
        "name": label.name,
        "fingerprint": label.fingerprint,
        "method": label.method,
        "model": label.model,
        "concept": label.concept,
        "seed": config.seed,
        "seeds": {
            "erase": config.seeds.erase,
            "generate": config.seeds.generate,
            "attack": config.seeds.attack,
        },
        "scores": last.scored.scores,
        "cost": cost,
        "warnings": redacted([*said(made), *_warnings(steps)]),
        "artifacts": artifacts,
        "environment": {**environment(config.device), "library_warnings": library_warnings()},
        "made_with": _makings(artifacts, folder),
    }
    if attacks.found:
        results["attacks"] = [
            _attack(name, found, attacks.made(name)) for name, found in attacks.found.items()
        ]
    if config.concept.sequence is not None:
        results["steps"] = entries(config, steps)
    if curves:
        results["resurgence"] = list(curves)
    return results


def _attack(name: str, found: AdversarialPrompts, folders: Sequence[Path]) -> AttackEntry:
    count = max(1, len(found.prompts))
    return {
        "name": name,
        "prompts": len(found.prompts),
        "found": sum(one is True for one in found.found),
        "failed": len(found.unjudged),
        "queries": sum(found.queries) / count,
        "unet_forwards": sum(found.forwards) / count,
        "seconds": spent(folders),
    }


def _makings(artifacts: Mapping[str, Artifact], folder: Path) -> list[Making]:
    """Where and with what the artifacts that have a folder were made, each way once."""
    found: list[Making] = []
    for name, artifact in artifacts.items():
        if artifact["path"] is None:
            continue
        here = made_with(folder / artifact["path"])
        alike = [one for one in found if {**one, "artifacts": []} == {**here, "artifacts": []}]
        if alike:
            alike[0]["artifacts"].append(name)
        else:
            found.append({**here, "artifacts": [name]})
    return found


def _warnings(steps: Sequence[Step]) -> list[str]:
    """What the metrics warn of; of a step before the last, only what the last does not say as well."""
    *between, last = steps
    found = list(last.scored.warnings)
    for number, step in enumerate(between, start=1):
        found += [f"After step {number}: {text}" for text in step.scored.warnings if text not in found]
    return found


def _artifacts(
    config: RunConfig,
    folder: Path,
    steps: Sequence[Step],
    attacks: Attacked,
    drawn: Mapping[str, Drawn],
) -> dict[str, Artifact]:
    def kept(path: Path) -> Artifact:
        return {"fingerprint": path.name, "path": os.path.relpath(path, folder)}

    *between, last = steps
    found = {"erasure": kept(last.erased.folder), "scores": kept(last.scored.folder)}
    found |= {f"attack:{name}": kept(path) for name, path in attacks.folders.items()}
    found |= {f"guesses:{name}": kept(path) for name, path in attacks.guesses.items()}
    for request, one in last.images.items():
        if len(one):
            found[f"images:{request}"] = kept(one.folder)
        found[f"prompts:{request.prompts}"] = {"fingerprint": one.prompts.fingerprint(), "path": None}
    for name, curve in drawn.items():
        found |= {f"resurgence:{model}:{name}": kept(path) for model, path in curve.folders.items()}
    for number, step in enumerate(between, start=1):
        found[f"step{number}:erasure"] = kept(step.erased.folder)
        found[f"step{number}:scores"] = kept(step.scored.folder)
        for request, one in step.images.items():
            if len(one) and request.model == "erased":
                found[f"step{number}:images:{request}"] = kept(one.folder)
    for key in used_detectors(config):
        found[f"detector:{key}"] = {
            "fingerprint": fingerprint(identity(key, config.eval.detectors[key])),
            "path": None,
        }
    return found


def used_detectors(config: RunConfig) -> list[str]:
    """Keys of the detectors that a run judges with: its concepts' and its model's."""
    return sorted({*judges(config.concepts), config.model.clip, config.model.inception})
