"""Measures the shipped judge's errors, writes its cards and prints the table of its model card.

Usage: ``python -m scripts.pocket.judge_card [--images N]``. Both versions judge the same images: held-out
renders, whole and damaged, and images that the packaged model draws, whole and with damaged weights
(`scripts/pocket/trials.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from scripts.pocket import generated, layouts
from scripts.pocket.labels import LABELS, NOTHING
from scripts.pocket.trials import SUBJECT, Trial, trials
from unlearn.detectors.card import Card
from unlearn.detectors.errors import Errors, pooled
from unlearn.detectors.pocket import VERSIONS, PocketJudge
from unlearn.statistics.rates import wilson_interval

FOLDER = Path("unlearn/data/pocket/judge")
THRESHOLD = 0.5
TOLD = [label for label in LABELS if label != NOTHING]


def decisions(judge: PocketJudge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the judge sees each label of :data:`TOLD`, and whether it abstains from its question, with
    shapes (B, K)."""
    readout = torch.cat([judge.readout(part) for part in images.split(200)])
    seen = torch.stack([judge.decide(readout, label) for label in TOLD], 1)
    return seen, torch.stack([judge.abstains(readout, label) for label in TOLD], 1)


def counts(seen: Tensor, trial: Trial) -> Iterator[tuple[str, Errors]]:
    """Of each label in one set; only those of which anything is known."""
    for column, label in enumerate(TOLD):
        known, truth = trial.known[:, column], trial.truth[:, column]
        there, absent = known & truth, known & ~truth
        found = Errors(
            int((seen[:, column] & there).sum()),
            int(there.sum()),
            int((~seen[:, column] & absent).sum()),
            int(absent.sum()),
            trial.name,
        )
        if found.shown or found.absent:
            yield label, found


def share(successes: int, n: int) -> str:
    """As in ``97.1 % [95.8, 98.0]``; a dash where there is nothing to count."""
    if not n:
        return "-"
    low, high = wilson_interval(successes, n)
    return f"{100 * successes / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def line(trial: Trial, by_label: dict[str, Errors], seen: Tensor, abstains: Tensor) -> str:
    """A row of the table: subjects seen, false alarms of one label, images with any, and abstentions."""
    subjects = pooled([one for label, one in by_label.items() if label in TOLD[SUBJECT]])
    wrong = (seen & ~trial.truth[:, : len(TOLD)] & trial.known[:, : len(TOLD)])[:, SUBJECT].any(1)
    without = abstains[:, 0]
    return " | ".join(
        [
            trial.name,
            share(subjects.seen, subjects.shown),
            f"{100 * (1 - subjects.cleared / subjects.absent):.2f} %",
            share(int(wrong.sum()), len(wrong)),
            f"{100 * without.float().mean():.1f} %",
            str(len(wrong)),
        ]
    )


def measure(version: str, wanted: list[Trial]) -> Card:
    """The card of one version; prints its table."""
    judge = PocketJudge(weights=version, threshold=THRESHOLD, device="cpu")
    sets: dict[str, dict[str, Errors]] = {}
    print(
        f"version {version}: | set | subject seen | false alarms a label | images with any | abstains | n |"
    )
    for trial in wanted:
        seen, abstains = decisions(judge, trial.images)
        sets[trial.name] = dict(counts(seen, trial))
        print(f"| {line(trial, sets[trial.name], seen, abstains)} |", flush=True)
    card = Card(THRESHOLD, sets)
    for name, labels in (("subject", TOLD[SUBJECT]), ("medium", TOLD[50:55]), ("family", TOLD[55:])):
        every = pooled([one for by in sets.values() for label, one in by.items() if label in labels])
        print(
            f"{name}: seen {share(every.seen, every.shown)}, n = {every.shown}; false alarms "
            f"{share(every.absent - every.cleared, every.absent)}, n = {every.absent}"
        )
        each = {label: card.errors(label, labels) for label in labels}
        weakest = sorted((one.seen / one.shown, label) for label, one in each.items() if one is not None)[:8]
        print("weakest: " + ", ".join(f"{label} {100 * rate:.0f} %" for rate, label in weakest))
    return card


def main() -> None:
    """Measures both versions and writes their cards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for module in (layouts, generated):
        for name in module.SETS:
            if name.endswith("test"):
                module.build(name)
    wanted = list(trials(arguments.images))
    for version, (_, _, card) in VERSIONS.items():
        (FOLDER / card).write_text(measure(version, wanted).to_json())


if __name__ == "__main__":
    main()
