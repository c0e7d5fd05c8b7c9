"""The straight line from a configuration to a report: load, erase, attack, generate, score, report.

Each stage is a function of what the stages before it made, kept in ``outputs/artifacts`` under a fingerprint
of all that it depends on. So a run that is started again does only what is missing, and runs share what they
have in common, above all the original model's images.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unlearn.concepts.concept import PromptSet
from unlearn.config.schemas import RunConfig
from unlearn.pipeline.attacking import attack, learned
from unlearn.pipeline.curves import judge
from unlearn.pipeline.drawing import Drawing, generate
from unlearn.pipeline.erasing import erase
from unlearn.pipeline.judging import Judging
from unlearn.pipeline.label import Label
from unlearn.pipeline.original import load
from unlearn.pipeline.outcome import Found, assemble
from unlearn.pipeline.resurging import Drawn, resurge
from unlearn.pipeline.scoring import score
from unlearn.pipeline.sequence import Step, measurements
from unlearn.report import score_table, write_report
from unlearn.store.artifacts import Store
from unlearn.store.layout import Item, Results, StepEntry
from unlearn.store.results import write_items, write_results
from unlearn.tracking.several import Tracking, tracked

PAIRS = 16
"""Images of each prompt set that a tracker gets."""

SEQUENCE = "sequence"
"""The stage under which a tracker gets what was measured after each step of a sequence."""


def run(config: RunConfig, folder: Path, label: Label, settings: Mapping[str, Any]) -> Results:
    """Does what is missing of a run, and reports it.

    Arguments:
        config: What to run.
        folder: Where ``results.json``, ``items.jsonl``, ``metrics.jsonl`` and ``report.html`` go.
        label: What the run is called.
        settings: The configuration in plain terms, for the tracker.

    Returns:
        What stands in ``results.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(Path(config.outputs) / "artifacts", config.force, config.device)
    prompts = config.prompt_sets()
    print(f"{label.name}\n")
    with tracked(config.tracker, folder, settings, label.name, label.group) as tracking:
        found = _found(config, prompts, store, tracking)
        with _stage("report", store):
            results = assemble(label, folder, found, config.concept.sequence, config.device)
            items = found.steps[-1].scored.items(folder)
            write_items(folder, items)
            written = [write_results(folder, results), write_report(folder)]
            _track(tracking, results, items, folder)
            tracking.files(written)
    _say(results, written, store)
    return results


def _found(config: RunConfig, prompts: dict[str, PromptSet], store: Store, tracking: Tracking) -> Found:
    """The stages up to the scores: each is handed what it needs of the configuration."""
    concepts, seeds, evaluation = config.concepts, config.seeds, config.eval
    judging = Judging(concepts, evaluation.detectors, evaluation.failures, evaluation.second_judge)
    plain = prompts["plain"]
    plans = measurements(evaluation.metrics, list(evaluation.attacks), concepts, config.concept.sequence)

    with _stage("load", store):
        source = load(config.model, config.device, concepts, prompts, store)
        drawing = Drawing(source, config.model.sampler, store)
    with _stage("erase", store):
        erased = erase(config.method, config.steps, seeds.erase, source, store, tracking)
    with _stage("attack", store):
        attacks = attack(evaluation.attacks, plain, seeds.attack, erased[-1], drawing, judging)
    with _stage("generate", store):
        prompts |= {one.found.prompts.name: one.found.prompts for one in attacks.values()}
        words = learned(attacks)
        images = [
            generate(plan.needed, prompts, step, drawing, words)
            for step, plan in zip(erased, plans, strict=True)
        ]
    drawn: dict[str, Drawn] = {}
    if evaluation.resurgence:
        with _stage("resurge", store):
            kinds = evaluation.resurgence
            drawn = resurge(kinds, plain, concepts, seeds.attack, erased[-1], drawing, images[-1])
    with _stage("score", store):
        source.release()
        scored = [
            score(plan.metrics, seen, attacks if plan.attacks else {}, judging, store, plan.groups)
            for seen, plan in zip(images, plans, strict=True)
        ]
        curves = judge(drawn, judging, store)
        steps = [Step(*parts) for parts in zip(erased, images, scored, strict=True)]
    detectors = judging.named([config.model.clip, config.model.inception])
    return Found(steps, attacks, drawn, curves, detectors)


def _say(results: Results, written: Sequence[Path], store: Store) -> None:
    """Prints the scores, what is doubtful, and where the whole of it lies."""
    print(f"\n{score_table(results)}\n")
    for warning in results["warnings"]:
        print(f"Warning: {warning}")
    if not store.made:
        print("Nothing was computed: all of this was there already (force=true makes it anew).")
    table, page = written
    print(f"Report: {page}\n{table}")


@contextmanager
def _stage(name: str, store: Store) -> Iterator[None]:
    """Prints what a stage did once it is done, in a line."""
    made, reused, start = len(store.made), len(store.reused), time.perf_counter()
    yield
    counts = {"made": len(store.made) - made, "reused": len(store.reused) - reused}
    done = ", ".join(f"{count} {verb}" for verb, count in counts.items() if count)
    print(f"{name:<10}{done:<22}{time.perf_counter() - start:8.1f} s", flush=True)


def _track(tracking: Tracking, results: Results, items: Sequence[Item], folder: Path) -> None:
    """Hands scores, costs and the first images of each prompt set to the tracker."""
    for number, step in enumerate(results.get("steps", ()), start=1):
        tracking.log(SEQUENCE, _measured(step), number)
    tracking.summary(_summary(results))
    for name, rows in _tables(items, folder).items():
        tracking.table(name, rows)


def _measured(step: StepEntry) -> dict[str, float]:
    values = {key: one["value"] for key, one in step["scores"].items()}
    values |= {f"erased_{concept}": one["value"] for concept, one in step["concepts"].items()}
    known = {key: value for key, value in values.items() if value is not None}
    return {**known, "drift": step["drift"]}


def _summary(results: Results) -> dict[str, float | None]:
    scores = results["scores"]
    found: dict[str, float | None] = {f"score/{key}": one["value"] for key, one in scores.items()}
    found |= {f"original/{key}": one["original"]["value"] for key, one in scores.items() if one["original"]}
    costs = {f"cost/{key}": value for key, value in results["cost"].items() if isinstance(value, int | float)}
    return found | costs


def _tables(items: Sequence[Item], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The first images of each prompt set, each beside the original model's."""
    paths = {(item["prompts"], item["model"], item["index"]): folder / item["image"] for item in items}
    tables: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        if item["model"] == "erased" and item["index"] < PAIRS:
            role = item["prompts"]
            original = paths.get((role, "original", item["index"]))
            row = {"prompt": item["prompt"], "seed": item["seed"], "original": original}
            row |= {"erased": folder / item["image"], "scores": str(item["scores"])}
            tables.setdefault(f"images/{role.replace(':', '_')}", []).append(row)
    return tables
