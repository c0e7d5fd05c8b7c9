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

from unlearn.config.schemas import RunConfig
from unlearn.pipeline.curves import judge, resurge
from unlearn.pipeline.evaluation import prompt_sets
from unlearn.pipeline.label import Label
from unlearn.pipeline.outcome import assemble
from unlearn.pipeline.sequence import Step, measurements
from unlearn.pipeline.stages import Attacked, attack, erase, generate, load, score
from unlearn.report import score_table, write_report
from unlearn.store.artifacts import Store
from unlearn.store.layout import Item, Results
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
    prompts = prompt_sets(
        config.concepts,
        config.eval.prompts,
        config.paths.prompts,
        config.seeds.generate,
        each=config.concept.sequence is not None,
    )
    plans = measurements(config)

    print(f"{label.name}\n")
    with tracked(config.tracker, folder, settings, label.name, label.group) as tracking:
        with _stage("load", store):
            source = load(config, store, prompts)
        with _stage("erase", store):
            erased = erase(config, store, source, tracking)
        with _stage("attack", store):
            attacks = attack(config, store, source, erased[-1], prompts["plain"])
        with _stage("generate", store):
            prompts |= {found.prompts.name: found.prompts for found in attacks.found.values()}
            images = [
                generate(config, store, source, one, plan.needed, prompts, attacks.words())
                for one, plan in zip(erased, plans, strict=True)
            ]
        drawn = {}
        if config.eval.resurgence:
            with _stage("resurge", store):
                drawn = resurge(config, store, source, erased[-1], prompts["plain"], images[-1])
        with _stage("score", store):
            source.release()
            scored = [
                score(
                    config, store, plan.metrics, found, attacks if plan.attacks else Attacked(), plan.groups
                )
                for found, plan in zip(images, plans, strict=True)
            ]
            curves = judge(config, store, drawn)
            steps = [Step(*parts) for parts in zip(erased, images, scored, strict=True)]
        with _stage("report", store):
            results = assemble(config, label, folder, steps, attacks, drawn, curves)
            items = scored[-1].items(folder)
            write_items(folder, items)
            written = [write_results(folder, results), write_report(folder)]
            _track(tracking, results, items, folder)
            tracking.files(written)

    print(f"\n{score_table(results)}\n")
    for warning in results["warnings"]:
        print(f"Warning: {warning}")
    if not store.made:
        print("Nothing was computed: all of this was there already (force=true makes it anew).")
    print(f"Report: {written[1]}\n{written[0]}")
    return results


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
        values = {key: score["value"] for key, score in step["scores"].items()}
        values |= {f"erased_{concept}": score["value"] for concept, score in step["concepts"].items()}
        known = {key: value for key, value in values.items() if value is not None}
        tracking.log(SEQUENCE, {**known, "drift": step["drift"]}, number)
    summary: dict[str, float | None] = {
        f"score/{key}": score["value"] for key, score in results["scores"].items()
    }
    originals = {
        f"original/{key}": score["original"]["value"]
        for key, score in results["scores"].items()
        if score["original"] is not None
    }
    costs = {f"cost/{key}": value for key, value in results["cost"].items() if isinstance(value, int | float)}
    tracking.summary({**summary, **originals, **costs})
    paths = {(item["prompts"], item["model"], item["index"]): folder / item["image"] for item in items}
    tables: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        if item["model"] == "erased" and item["index"] < PAIRS:
            role = item["prompts"]
            original = paths.get((role, "original", item["index"]))
            row = {"prompt": item["prompt"], "seed": item["seed"], "original": original}
            row |= {"erased": folder / item["image"], "scores": str(item["scores"])}
            tables.setdefault(f"images/{role.replace(':', '_')}", []).append(row)
    for name, rows in tables.items():
        tracking.table(name, rows)
