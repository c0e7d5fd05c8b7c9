"""What a run found, put together as ``results.json`` wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.artifacts import fingerprint
from unlearn.images import ImageRequest, ImageSet
from unlearn.results import SCHEMA, Artifact, Cost, Results, environment
from unlearn.stages import Attacked, Erased, Scored, said, spent

if TYPE_CHECKING:
    from unlearn.config import RunConfig
    from unlearn.run import Label


def assemble(
    config: RunConfig,
    label: Label,
    folder: Path,
    erased: Erased,
    attacks: Attacked,
    images: Mapping[ImageRequest, ImageSet],
    scored: Scored,
) -> Results:
    """All of ``results.json``.

    Arguments:
        config: What was run.
        label: What the run is called.
        folder: Its folder, which the artifacts' paths are relative to.
        erased: What the method did.
        attacks: What the attacks found.
        images: What was drawn.
        scored: What the metrics say.
    """
    drawn = [one.folder for one in images.values() if len(one)]
    cost: Cost = {
        "erase_seconds": float(erased.cost["seconds"] or 0.0),
        "attack_seconds": spent(attacks.folders.values()),
        "generate_seconds": spent(drawn),
        "score_seconds": spent([scored.folder]),
        "peak_memory_gib": erased.cost["peak_memory_gib"],
        "parameters_changed": sum(weight.numel() for weight in erased.erasure.weights.values()),
        "unet_forwards": int(erased.cost["forwards"] or 0),
    }
    return {
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
        "scores": scored.scores,
        "cost": cost,
        "warnings": [*said([erased.folder, *attacks.folders.values(), *drawn]), *scored.warnings],
        "artifacts": _artifacts(config, folder, erased, attacks, images, scored),
        "environment": environment(config.device),
    }


def _artifacts(
    config: RunConfig,
    folder: Path,
    erased: Erased,
    attacks: Attacked,
    images: Mapping[ImageRequest, ImageSet],
    scored: Scored,
) -> dict[str, Artifact]:
    def kept(path: Path) -> Artifact:
        return {"fingerprint": path.name, "path": os.path.relpath(path, folder)}

    found = {"erasure": kept(erased.folder), "scores": kept(scored.folder)}
    found |= {f"attack:{name}": kept(path) for name, path in attacks.folders.items()}
    for request, one in images.items():
        if len(one):
            found[f"images:{request}"] = kept(one.folder)
        found[f"prompts:{request.prompts}"] = {"fingerprint": one.prompts.fingerprint(), "path": None}
    for key in used_detectors(config):
        network = config.eval.detectors[key]
        version = getattr(network, "version", None)
        found[f"detector:{key}"] = {
            "fingerprint": fingerprint({"settings": network, "version": version}),
            "path": None,
        }
    return found


def used_detectors(config: RunConfig) -> list[str]:
    """Keys of the detectors that a run judges with: its concepts' and its model's."""
    judges = {concept.detector for concept in config.concepts.erase.values()}
    return sorted({*judges, config.model.clip, config.model.inception})
