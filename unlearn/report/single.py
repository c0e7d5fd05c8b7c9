"""The report of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unlearn.report import resurgence, steps
from unlearn.report.conclusion import conclusion
from unlearn.report.page import fill
from unlearn.report.pictures import grids
from unlearn.report.record import Run
from unlearn.report.wording import VERDICT_SCORES, attack_title, duration, plain, sections, strongest_attack
from unlearn.store.environment import Environment
from unlearn.verdict.axes import ENOUGH_IMAGES, ENOUGH_PROMPTS
from unlearn.verdict.verdict import KINDS


def write_report(run_folder: Path) -> Path:
    """Writes ``report.html`` of a finished run: one file that loads nothing from elsewhere.

    Arguments:
        run_folder: Holds ``results.json``; ``items.jsonl``, ``metrics.jsonl`` and the configuration are shown
            if they are there.

    Returns:
        The path of the report.

    Raises:
        ArtifactError: If a file of the run, or an image, is missing or damaged.
    """
    run = Run.read(run_folder)
    results = run.results
    return fill(
        "report.html",
        run.folder / "report.html",
        title=f"{results['method']} · {plain(results['concept'])} · {results['model']}",
        run=run,
        results=results,
        scores=results["scores"],
        verdict=conclusion(results),
        kinds=KINDS,
        enough=(ENOUGH_IMAGES, ENOUGH_PROMPTS),
        key_scores=_key_scores(run),
        warnings=_warnings(run),
        sections=sections(results["scores"]),
        agreement=results.get("agreement", ()),
        progress=steps.section(run),
        resurgence=resurgence.figures(results),
        grids=grids(run),
        curves={
            name: curve
            for name, curve in run.curves.items()
            if len(curve) > 1 and not name.startswith("sequence/")  # drawn with their intervals above
        },
        cost=_cost(run),
        environments=_environments(run),
    )


def _key_scores(run: Run) -> list[str]:
    """The scores that say most about the run: those of the verdict, and the strongest attack."""
    scores = run.results["scores"]
    attack = strongest_attack(scores)
    return [key for key in VERDICT_SCORES if key in scores] + ([attack] if attack else [])


def _warnings(run: Run) -> list[str]:
    warnings = list(run.results["warnings"])
    for key, score in run.results["scores"].items():
        if score["failed"]:
            warnings.append(f"{key}: {score['failed']} of {score['expected']} images could not be scored.")
    commits = {str(one["commit"])[:10] for one in _environments(run) if one["dirty"]}
    warnings += [
        f"The code differed from commit {commit}: what it was cannot be told from this report."
        for commit in sorted(commits)
    ]
    return warnings


def _environments(run: Run) -> Sequence[Environment]:
    """Where and with what the run's artifacts were made; of older results, where these were put together."""
    return run.results.get("made_with") or [run.results["environment"]]


def _cost(run: Run) -> list[tuple[str, str]]:
    cost = run.results["cost"]
    memory = cost["peak_memory_gib"]
    return [
        ("Erasing", duration(cost["erase_seconds"])),
        ("Attacking", duration(cost["attack_seconds"])),
        ("Drawing images", duration(cost["generate_seconds"])),
        ("Scoring", duration(cost["score_seconds"])),
        ("Peak memory", "not measured" if memory is None else f"{memory:.2f} GiB"),
        ("Parameters changed", f"{cost['parameters_changed']:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")),
        (
            "Denoiser evaluations to erase",
            f"{cost['unet_forwards']:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        ),
        *(
            (
                attack_title(f"asr_{one['name']}"),
                f"{one['queries']:.0f} candidates, {one['unet_forwards']:.0f} denoiser evaluations a prompt",
            )
            for one in run.results.get("attacks", ())
        ),
    ]
