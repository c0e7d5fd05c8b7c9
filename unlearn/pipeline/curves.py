"""How fast an erased concept comes back: the curves of a run, drawn and judged.

For every curve the erased model, and where it tells something the original one, is drawn from at each place
of an axis, for the same prompts and seeds. All images of one curve and one model are one artifact: those that
were drawn before a run was killed are kept, and so is the training between them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet, image_name
from unlearn.config.schemas import RunConfig
from unlearn.errors import ArtifactError
from unlearn.methods.method import Context, Meter
from unlearn.metrics.detection import detections
from unlearn.metrics.functional import rate_interval
from unlearn.metrics.metric import Evidence
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler, Start
from unlearn.pipeline import evaluation
from unlearn.pipeline.networks import identity, used
from unlearn.pipeline.original import Source
from unlearn.pipeline.stages import Erased
from unlearn.resurgence.resurgence import Place, Resurgence, Subject
from unlearn.seeding import derive_seed
from unlearn.store.artifacts import Store, seconds
from unlearn.store.layout import CurveEntry, Measured, PlaceEntry
from unlearn.store.provenance import made_by
from unlearn.system.writing import share

ROLE = "plain"
"""The prompts that curves are drawn for."""


@dataclass(frozen=True)
class Drawn:
    """The images of one curve.

    Attributes:
        resurgence: What was done.
        places: Where: first the one at which the erased model is drawn from as it is.
        erased: Images of each place.
        original: The original model's, likewise; only those of the first place where it is not put to the
            test.
        folders: The artifacts, by the model, ``erased`` or ``original``.
    """

    resurgence: Resurgence
    places: list[Place]
    erased: list[ImageSet]
    original: list[ImageSet]
    folders: dict[str, Path]


def resurge(
    config: RunConfig,
    store: Store,
    source: Source,
    erased: Erased,
    plain: PromptSet,
    images: Mapping[ImageRequest, ImageSet],
) -> dict[str, Drawn]:
    """Draws each curve, or finds what was drawn.

    Arguments:
        erased: What was done to the original model in all.
        images: What was drawn for metrics: plain prompts among it are not drawn again.
    """
    return {
        name: _drawn(name, kind, config, store, source, erased, plain.limited(kind.prompts), images)
        for name, kind in config.eval.resurgence.items()
    }


def _drawn(
    name: str,
    kind: Resurgence,
    config: RunConfig,
    store: Store,
    source: Source,
    erased: Erased,
    prompts: PromptSet,
    images: Mapping[ImageRequest, ImageSet],
) -> Drawn:
    sampler = config.model.sampler
    sources = {"original": erased.inputs["source"], "erased": erased.inputs}
    changes = erased.erasure.weights or erased.erasure.guard is not None
    sets: dict[str, list[ImageSet]] = {}
    folders = {}
    for model in ("erased", "original"):
        request = ImageRequest(ROLE, model)
        if request in images and images[request].prompts.limited(len(prompts)) == prompts:
            first = ImageSet(request, prompts, images[request].folder)
        else:
            first = evaluation.generate(request, prompts, source, erased.erasure, sampler, store, sources)
        sets[model] = [first]
        if model == "erased" or kind.both:
            erasure = erased.erasure if model == "erased" else Erasure()
            inputs = {
                "prompts": [prompts.prompts, prompts.seeds],
                "resurgence": kind,
                "sampler": sampler,
                "seed": config.seeds.attack,
                "source": sources["original" if kind.both and not changes else model],
                **made_by(_visited, kind, sampler),
            }
            folders[model] = _visited(
                f"{model}:{name}", kind, config, store, source, erasure, prompts, inputs
            )
            count = len(kind.places(sampler))
            sets[model] += [ImageSet(request, prompts, folders[model] / str(i)) for i in range(count)]
    places = [kind.origin(sampler), *kind.places(sampler)]
    return Drawn(kind, places, sets["erased"], sets["original"], folders)


def _visited(
    name: str,
    kind: Resurgence,
    config: RunConfig,
    store: Store,
    source: Source,
    erasure: Erasure,
    prompts: PromptSet,
    inputs: Mapping[str, Any],
) -> Path:
    """The folder with the images of one curve and one model, in a folder for each place."""
    usual = config.model.sampler
    places = kind.places(usual)

    def make(folder: Path) -> None:
        model, scratch = source(), store.scratch("resurgence", inputs)
        context = Context(
            seed=derive_seed(config.seeds.attack, "resurgence"),
            scratch=scratch,
            log=lambda _values, _step: None,
            progress=sys.stderr.isatty(),
            meter=Meter(model),
        )

        def show(place: int, sampler: Sampler | None = None, start: Start | None = None) -> None:
            unfinished = scratch / str(place)
            unfinished.mkdir(exist_ok=True)
            said = f"{name}:{places[place].label}"
            evaluation.draw_missing(
                model, prompts, sampler or usual, erasure.guard, unfinished, said, start=start
            )

        kind.visit(Subject(model, erasure, config.concepts, prompts, usual), context, show)
        for place in range(len(places)):
            (folder / str(place)).mkdir()
            for index in range(len(prompts)):
                image = Path(str(place)) / image_name(index)
                if not (scratch / image).exists():
                    raise ArtifactError(f"{scratch / image}: is missing. Delete {scratch} and run again.")
                # Not moved, for a training that goes on from its checkpoint does not come by here again.
                share(scratch / image, folder / image)

    return store.once("resurgence", inputs, make)


def judge(config: RunConfig, store: Store, drawn: Mapping[str, Drawn]) -> list[CurveEntry]:
    """What the detectors say of each curve, or said: the curves as in ``results.json``."""
    return [_judged(name, one, config, store) for name, one in drawn.items()]


def _judged(name: str, drawn: Drawn, config: RunConfig, store: Store) -> CurveEntry:
    networks = used(config.eval.detectors, config.concepts, ())
    inputs = {
        "concepts": config.concepts,
        "detectors": {key: identity(key, network) for key, network in networks.items()},
        "failures": config.eval.failures,
        "images": [
            [f"{one.folder.parent.name}/{one.folder.name}" for one in sets]
            for sets in (drawn.erased, drawn.original)
        ],
        "name": name,
        "places": drawn.places,
        "prompts": drawn.erased[0].prompts,
        "resurgence": drawn.resurgence.axis,
        **made_by(_judged, config.concepts),
    }

    def make(folder: Path) -> None:
        requests = {
            ImageRequest(f"{name}:{place}", model): one
            for model, sets in (("erased", drawn.erased), ("original", drawn.original))
            for place, one in enumerate(sets)
        }
        evidence = Evidence(config.concepts, requests, networks, config.eval.failures)
        entry = _entry(name, drawn, evidence)
        (folder / "curve.json").write_text(json.dumps(entry, ensure_ascii=False, allow_nan=False))

    folder = store.once("curves", inputs, make)
    entry: CurveEntry = json.loads((folder / "curve.json").read_text(encoding="utf-8"))
    return entry


def _entry(name: str, drawn: Drawn, evidence: Evidence) -> CurveEntry:
    prompts = drawn.erased[0].prompts.prompts

    def rate(place: int, model: str) -> tuple[Measured | None, int]:
        return rate_of(detections(evidence, ImageRequest(f"{name}:{place}", model)), prompts)

    points: list[PlaceEntry] = []
    for number, place in enumerate(drawn.places):
        measured, n = rate(number, "erased")
        points.append(
            {
                "at": place.at,
                "label": place.label,
                "value": None if measured is None else measured["value"],
                "interval": None if measured is None else measured["interval"],
                "n": n,
                "original": rate(number, "original")[0] if number < len(drawn.original) else None,
            }
        )
    return {
        "name": name,
        "axis": drawn.resurgence.axis,
        "points": points,
        "half": half(points),
        "seconds": sum(seconds(folder) for folder in drawn.folders.values()),
    }


def rate_of(shown: Tensor, prompts: tuple[str, ...]) -> tuple[Measured | None, int]:
    """A rate in percent with its interval, None where no image could be judged, and over how many it is.

    Arguments:
        shown: 1, 0, or NaN for each image, with shape :math:`(N)`.
    """
    whole = shown.isfinite()
    kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
    if not kept:
        return None, 0
    ends = rate_interval(shown[whole], kept)
    value = 100 * shown[whole].mean().item()
    return {"value": value, "interval": None if ends is None else [100 * end for end in ends]}, len(kept)


def half(points: list[PlaceEntry]) -> float | None:
    """Where, in the order of the points, the erased model first shows the concept half as often as the
    original does without further ado; None if nowhere, or if that never shows it.
    """
    original = points[0]["original"]
    if original is None or not original["value"] > 0:
        return None
    reached = (point["at"] for point in points if (point["value"] or -math.inf) >= original["value"] / 2)
    return next(reached, None)
