"""The lines of ``items.jsonl``, from what the stages of a run hand over."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn.errors import UnlearnError
from unlearn.results import Item

if TYPE_CHECKING:  # these import torch, which a report can do without
    from unlearn.images import ImageRequest, ImageSet
    from unlearn.metrics.metric import Score


def items_of(
    run_folder: Path,
    images: Mapping[ImageRequest, ImageSet],
    scores: Mapping[str, Score],
    attacked: Mapping[str, Sequence[str]] | None = None,
) -> list[Item]:
    """What ``results.write_items`` stores: every image, and what each metric said of it.

    Arguments:
        run_folder: The folder that the paths are relative to.
        images: The image sets of the run.
        scores: By their key in ``eval.metrics``; their ``per_image`` is read.
        attacked: By the name of an attack, the prompts that it began with, in the order of its image set.
    """
    items: list[Item] = []
    for request, images_of in images.items():
        readings = {
            key: score.per_image[request] for key, score in scores.items() if request in score.per_image
        }
        for key, values in readings.items():
            if len(values) != len(images_of):
                raise UnlearnError(
                    f"{key}: says something of {len(values)} images of {request}, not {len(images_of)}."
                )
        begun = (attacked or {}).get(request.prompts.removeprefix("attack:"))
        for index, (prompt, seed) in enumerate(
            zip(images_of.prompts.prompts, images_of.prompts.seeds, strict=True)
        ):
            item: dict[str, Any] = {
                "prompts": request.prompts,
                "model": request.model,
                "index": index,
                "prompt": prompt,
                "seed": seed,
                "image": os.path.relpath(images_of.path(index), run_folder),
                "scores": {
                    k: float(values[index]) for k, values in readings.items() if math.isfinite(values[index])
                },
            }
            if begun is not None and request.prompts.startswith("attack:"):
                item["plain"] = begun[index]
            items.append(item)  # type: ignore[arg-type]
    return items
