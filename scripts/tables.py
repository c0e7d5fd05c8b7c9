"""The Markdown tables of ``docs/results``, made of finished runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from unlearn.metrics.functional import mcnemar_p, rate_interval
from unlearn.report import write_comparison
from unlearn.results import Item, PlaceEntry, Results, ScoreEntry, read_items, read_results


def costs(folders: list[Path]) -> str:
    """A table of what each erasure cost."""
    lines = [
        "| Method | Concept | Seed | Seconds | U-Net forwards | Numbers changed |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for folder in folders:
        results = read_results(folder)
        cost = results["cost"]
        lines.append(
            f"| `{results['method']}` | {results['concept']} | {results['seed']} "
            f"| {cost['erase_seconds']:.2f} | {cost['unet_forwards']:,} | {cost['parameters_changed']:,} |"
        )
    return "\n".join(lines)


def attack_costs(folders: list[Path]) -> list[str]:
    """What each attack spent, a row for each run."""
    runs = [read_results(folder) for folder in folders]
    names = list(dict.fromkeys(one["name"] for run in runs for one in run.get("attacks", ())))
    if not names:
        return []
    lines = [
        f"| Method | Concept | Seed | {' | '.join(f'`{name}`' for name in names)} |",
        f"| --- | --- | ---: |{' ---: |' * len(names)}",
    ]
    for run in runs:
        spent = {one["name"]: f"{one['unet_forwards']:.0f}" for one in run.get("attacks", ())}
        cells = " | ".join(spent.get(name, "-") for name in names)
        lines.append(f"| `{run['method']}` | {run['concept']} | {run['seed']} | {cells} |")
    return ["U-Net forwards that the attacks spent on each prompt, on average:", "\n".join(lines)]


def returns(folders: list[Path]) -> str:
    """A table for each way of coming back, a row for each run."""
    runs = [read_results(folder) for folder in folders]
    tables = []
    for name in dict.fromkeys(curve["name"] for run in runs for curve in run.get("resurgence", ())):
        found = [(run, curve) for run in runs for curve in run.get("resurgence", ()) if curve["name"] == name]
        points = found[0][1]["points"]
        lines = [
            f"**`{name}`: images that show the concept (%), by {found[0][1]['axis']}:**\n",
            f"| Method | Concept | {' | '.join(point['label'] for point in points)} | Half at |",
            f"| --- | --- |{' ---: |' * (len(points) + 1)}",
        ]
        for run, curve in found:
            half = "-" if curve["half"] is None else f"{curve['half']:g}"
            cells = [_cell(point) for point in curve["points"]]
            lines.append(f"| `{run['method']}` | {run['concept']} | {' | '.join(cells)} | {half} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def curves(folders: list[Path]) -> str:
    """A table for each score that is taken after every step of a sequence, a row for each method."""
    runs = [read_results(folder) for folder in folders]
    tables = []
    for key, title in (
        ("erased", "Erased concepts that are shown"),
        ("retained", "Neighbours kept"),
        ("unrelated", "Unrelated kept"),
    ):
        order = [step["concept"] for step in runs[0]["steps"]]
        lines = [
            f"**{title} (%), after each step:**\n",
            f"| Method | {' | '.join(f'{i}. {name}' for i, name in enumerate(order, start=1))} |",
            f"| --- |{' ---: |' * len(order)}",
        ]
        lines += [f"| `{run['method']}` | {' | '.join(_cells(run, key))} |" for run in runs]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def _cells(run: Results, key: str) -> list[str]:
    return [_cell(step["scores"].get(key)) for step in run["steps"]]


def _cell(entry: ScoreEntry | PlaceEntry | None) -> str:
    if entry is None or entry["value"] is None:
        return "-"
    low, high = entry["interval"] or (None, None)
    return f"{entry['value']:.1f}" + ("" if low is None else f" [{low:.1f}, {high:.1f}]")


def compared(folders: list[Path]) -> str:
    """A table of the scores for each concept."""
    with tempfile.TemporaryDirectory() as folder:
        write_comparison(folders, Path(folder), ("concept",))
        return (Path(folder) / "table.md").read_text(encoding="utf-8").strip()


def against_control(folders: list[Path], control: str = "random_tokens") -> str:
    """How often each attack brings the concept back, all concepts together, a row for each method.

    As in the attacks' success rates, a prompt that shows the concept as it is counts for every attack, and
    prompts are the unit of sampling. Each attack is told from the control by McNemar's exact test, image by
    image.
    """
    names: dict[str, None] = {}
    # By method and attack: whether the concept shows, by run, place and prompt.
    shown: dict[str, dict[str, dict[tuple[str, int, str], bool]]] = {}
    for folder in folders:
        run, items = read_results(folder), read_items(folder)
        plain = {item["index"]: item["scores"].get("erased") for item in items if _is(item, "plain")}
        for one in run.get("attacks", ()):
            names[one["name"]] = None
            outcomes = shown.setdefault(run["method"], {}).setdefault(one["name"], {})
            for item in items:
                if _is(item, f"attack:{one['name']}"):
                    judged = plain[item["index"]], item["scores"].get(f"asr_{one['name']}")
                    if None not in judged:
                        place = f"{run['concept']} {run['seed']}", item["index"], item.get("plain", "")
                        outcomes[place] = any(judged)
    lines = [
        f"| Method | Images | {' | '.join(f'`{name}`' for name in names)} |",
        f"| --- | ---: |{' ---: |' * len(names)}",
    ]
    for method, by_attack in shown.items():
        chance = by_attack[control]
        cells = []
        for name in names:
            found = by_attack[name]
            both = found.keys() & chance.keys()
            gained = sum(found[key] and not chance[key] for key in both)
            lost = sum(chance[key] and not found[key] for key in both)
            hits = torch.tensor([float(hit) for hit in found.values()])
            interval = rate_interval(hits, [prompt for _, _, prompt in found])
            assert interval is not None
            cell = f"{hits.sum():.0f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
            cells.append(cell + ("" if name == control else f", p = {mcnemar_p(gained, lost):.2g}"))
        lines.append(f"| `{method}` | {len(chance)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _is(item: Item, prompts: str) -> bool:
    """Whether it is the erased model's image for one of a set of prompts."""
    return item["prompts"] == prompts and item["model"] == "erased"
