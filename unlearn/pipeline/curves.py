"""Curves: what the detectors say at each place of what was drawn for one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unlearn.concepts.images import ImageRequest
from unlearn.metrics.detection import detections
from unlearn.metrics.evidence import Evidence
from unlearn.pipeline.judging import Judging, identities
from unlearn.pipeline.resurging import Drawn
from unlearn.statistics.rates import rate_interval
from unlearn.store.artifacts import Store, content, seconds
from unlearn.store.layout import CurveEntry, Measured, PlaceEntry
from unlearn.store.provenance import made_by


def judge(drawn: Mapping[str, Drawn], judging: Judging, store: Store) -> list[CurveEntry]:
    """What the detectors say of each curve, or said: the curves as in ``results.json``."""
    return [_judged(name, one, judging, store) for name, one in drawn.items()]


def _judged(name: str, drawn: Drawn, judging: Judging, store: Store) -> CurveEntry:
    networks = judging.named()
    inputs = {
        "concepts": judging.concepts,
        "detectors": identities(networks),
        "failures": judging.failures,
        "images": [
            [f"{one.folder.parent.name}/{one.folder.name}" for one in sets]
            for sets in (drawn.erased, drawn.original)
        ],
        "name": name,
        "places": drawn.places,
        "prompts": drawn.erased[0].prompts,
        "resurgence": drawn.resurgence.axis,
        **made_by(_judged, judging.concepts),
    }

    def make(folder: Path) -> None:
        images = {
            ImageRequest(f"{name}:{place}", model): one
            for model, sets in (("erased", drawn.erased), ("original", drawn.original))
            for place, one in enumerate(sets)
        }
        evidence = Evidence(judging.concepts, images, networks, judging.failures)
        entry = _entry(name, drawn, evidence)
        (folder / "curve.json").write_text(json.dumps(entry, ensure_ascii=False, allow_nan=False))

    entry: CurveEntry = content(store.once("curves", inputs, make) / "curve.json")
    return entry


def _entry(name: str, drawn: Drawn, evidence: Evidence) -> CurveEntry:
    points = [_point(name, number, drawn, evidence) for number in range(len(drawn.places))]
    return {
        "name": name,
        "axis": drawn.resurgence.axis,
        "points": points,
        "half": half(points),
        "seconds": sum(seconds(folder) for folder in drawn.folders.values()),
    }


def _point(name: str, number: int, drawn: Drawn, evidence: Evidence) -> PlaceEntry:
    def rate(model: str) -> tuple[Measured | None, int]:
        shown = detections(evidence, ImageRequest(f"{name}:{number}", model))
        return rate_of(shown, drawn.erased[0].prompts.prompts)

    measured, n = rate("erased")
    return {
        "at": drawn.places[number].at,
        "label": drawn.places[number].label,
        "value": None if measured is None else measured["value"],
        "interval": None if measured is None else measured["interval"],
        "n": n,
        "original": rate("original")[0] if number < len(drawn.original) else None,
    }


def rate_of(shown: Tensor, prompts: tuple[str, ...]) -> tuple[Measured | None, int]:
    """A rate in percent with its interval, None where no image could be judged, and over how many it is.

    Arguments:
        shown: 1, 0, :data:`UNSURE` (taken for 0) or NaN for each image, with shape :math:`(N)`.
    """
    whole = shown.isfinite()
    kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
    if not kept:
        return None, 0
    shown = (shown[whole] == 1).double()
    ends = rate_interval(shown, kept)
    value = 100 * shown.mean().item()
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
