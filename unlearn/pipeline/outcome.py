"""What a run found, put together as ``results.json`` wants it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearn.attacks.queries import by_queries
from unlearn.detectors.detector import Network
from unlearn.pipeline.attacking import Attacked
from unlearn.pipeline.judging import identities
from unlearn.pipeline.label import Label
from unlearn.pipeline.resurging import Drawn
from unlearn.pipeline.sequence import Step, entries
from unlearn.store.artifacts import fingerprint, made_with, seconds, warned
from unlearn.store.environment import environment
from unlearn.store.layout import SCHEMA, Artifact, AttackEntry, Cost, CurveEntry, Making, Results
from unlearn.system.confidential import redacted
from unlearn.system.heard import library_warnings


@dataclass(frozen=True)
class Found:
    """What the stages of a run made.

    Attributes:
        steps: What was done and what it led to; several of a sequence.
        attacks: What each attack found.
        drawn: The images of each curve.
        curves: How the concept comes back.
        detectors: The networks that it was judged with, by their key.
    """

    steps: Sequence[Step]
    attacks: Mapping[str, Attacked]
    drawn: Mapping[str, Drawn]
    curves: Sequence[CurveEntry]
    detectors: Mapping[str, Network]


def assemble(
    label: Label, folder: Path, found: Found, sequence: Sequence[str] | None, device: str
) -> Results:
    """All of ``results.json``.

    Arguments:
        folder: The run's folder, which the artifacts' paths are relative to.
        sequence: The concepts of the steps, of a sequence.
        device: The device that it ran on.
    """
    artifacts = _artifacts(found, folder)
    results: Results = {
        "schema": SCHEMA,
        "name": label.name,
        "fingerprint": label.fingerprint,
        "method": label.method,
        "model": label.model,
        "concept": label.concept,
        "seed": label.seed,
        "seeds": label.seeds,
        "scores": found.steps[-1].scored.scores,
        "cost": _cost(found),
        "warnings": redacted([*_said(found), *_warnings(found.steps)]),
        "artifacts": artifacts,
        "environment": {**environment(device), "library_warnings": library_warnings()},
        "made_with": _makings(artifacts, folder),
    }
    if agreed := found.steps[-1].scored.agreement:
        results["agreement"] = agreed
    if found.attacks:
        results["attacks"] = [_attack(name, one) for name, one in found.attacks.items()]
    if sequence is not None:
        results["steps"] = entries(sequence, found.steps)
    if found.curves:
        results["resurgence"] = list(found.curves)
    return results


def _cost(found: Found) -> Cost:
    costs = [step.erased.cost for step in found.steps]
    peaks = [cost["peak_memory_gib"] for cost in costs if cost["peak_memory_gib"] is not None]
    weights = found.steps[-1].erased.erasure.weights
    return {
        "erase_seconds": sum(float(cost["seconds"] or 0.0) for cost in costs),
        "attack_seconds": _spent(_attacked(found)),
        "generate_seconds": _spent(_images(found)),
        "score_seconds": _spent(step.scored.folder for step in found.steps),
        "peak_memory_gib": max(peaks, default=None),
        "parameters_changed": sum(weight.numel() for weight in weights.values()),
        "unet_forwards": sum(int(cost["forwards"] or 0) for cost in costs),
    }


def _attack(name: str, one: Attacked) -> AttackEntry:
    found = one.found
    count = max(1, len(found.prompts))
    entry: AttackEntry = {
        "name": name,
        "control": one.attack.control,
        "prompts": len(found.prompts),
        "found": sum(each is True for each in found.found),
        "failed": len(found.unjudged),
        "queries": sum(found.queries) / count,
        "unet_forwards": sum(found.forwards) / count,
        "seconds": _spent(one.folders),
    }
    if curve := by_queries(found):
        entry["curve"] = curve
    return entry


def _attacked(found: Found) -> list[Path]:
    return [folder for one in found.attacks.values() for folder in one.folders]


def _images(found: Found) -> list[Path]:
    return [one.folder for step in found.steps for one in step.images.values() if len(one)]


def _spent(folders: Iterable[Path]) -> float:
    """Seconds that artifacts took to make, each counted once."""
    return sum(seconds(folder) for folder in dict.fromkeys(folders))


def _said(found: Found) -> list[str]:
    """What was warned of while the artifacts were made, each sentence once."""
    back = [folder for one in found.drawn.values() for folder in one.folders.values()]
    folders = [*(step.erased.folder for step in found.steps), *_attacked(found), *_images(found), *back]
    return list(dict.fromkeys(text for folder in folders for text in warned(folder)))


def _warnings(steps: Sequence[Step]) -> list[str]:
    """What the metrics warn of; of a step before the last, only what the last does not say as well."""
    *between, last = steps
    found = list(last.scored.warnings)
    for number, step in enumerate(between, start=1):
        found += [f"After step {number}: {text}" for text in step.scored.warnings if text not in found]
    return found


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


def _artifacts(found: Found, folder: Path) -> dict[str, Artifact]:
    """All that the results come from, by the name that ``results.json`` has for it."""
    *between, last = found.steps
    places: dict[str, Path | str] = {"erasure": last.erased.folder, "scores": last.scored.folder}
    places |= {f"attack:{name}": one.folder for name, one in found.attacks.items()}
    places |= {f"guesses:{name}": one.guesses for name, one in found.attacks.items() if one.guesses}
    for request, one in last.images.items():
        if len(one):
            places[f"images:{request}"] = one.folder
        places[f"prompts:{request.prompts}"] = one.prompts.fingerprint()
    for name, curve in found.drawn.items():
        places |= {f"resurgence:{model}:{name}": path for model, path in curve.folders.items()}
    for number, step in enumerate(between, start=1):
        places |= {f"step{number}:{name}": path for name, path in _of_step(step).items()}
    places |= {f"detector:{key}": fingerprint(one) for key, one in identities(found.detectors).items()}
    return {name: _artifact(place, folder) for name, place in places.items()}


def _artifact(place: Path | str, folder: Path) -> Artifact:
    """An artifact by its folder; or something that has none, by its fingerprint."""
    if isinstance(place, str):
        return {"fingerprint": place, "path": None}
    return {"fingerprint": place.name, "path": os.path.relpath(place, folder)}


def _of_step(step: Step) -> dict[str, Path]:
    """What a step before the last left."""
    drawn = {
        f"images:{request}": one.folder
        for request, one in step.images.items()
        if len(one) and request.model == "erased"
    }
    return {"erasure": step.erased.folder, "scores": step.scored.folder, **drawn}
