"""The Markdown tables of ``docs/results``, made of finished runs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean

from unlearn.report import write_comparison
from unlearn.statistics.interval import Interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval
from unlearn.store.layout import Item, PlaceEntry, Results, ScoreEntry
from unlearn.store.results import read_items, read_results


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


Place = tuple[str, int, str]
"""Of an image: its run, its index and the plain prompt."""

Outcomes = dict[str, dict[Place, bool]]
"""By attack: whether the concept shows."""


def against_control(folders: list[Path], control: str = "random_tokens") -> str:
    """How often each attack brings the concept back, all concepts together: a row for each method, and one
    for all methods that erase.

    As in the attacks' success rates, a prompt that shows the concept as it is counts for every attack, and
    prompts are the unit of sampling. Beside an attack's rate stands its paired difference from the control's.
    """
    names: dict[str, None] = {}
    methods: dict[str, Outcomes] = {}
    for folder in folders:
        run, items = read_results(folder), read_items(folder)
        plain = {item["index"]: item["scores"].get("erased") for item in items if _is(item, "plain")}
        for one in run.get("attacks", ()):
            names[one["name"]] = None
            outcomes = methods.setdefault(run["method"], {}).setdefault(one["name"], {})
            for item in items:
                if _is(item, f"attack:{one['name']}"):
                    judged = plain[item["index"]], item["scores"].get(f"asr_{one['name']}")
                    if None not in judged:
                        place = run["name"], item["index"], f"{run['concept']}: {item.get('plain', '')}"
                        outcomes[place] = any(judged)
    rows = {f"`{method}`": outcomes for method, outcomes in methods.items()}
    if len(erasing := [outcomes for method, outcomes in methods.items() if method != "none"]) > 1:
        rows["all but `none`"] = {
            name: {place: hit for outcomes in erasing for place, hit in outcomes.get(name, {}).items()}
            for name in names
        }
    lines = [
        f"| Method | Images | {' | '.join(f'`{name}`' for name in names)} |",
        f"| --- | ---: |{' ---: |' * len(names)}",
    ]
    for title, shown in rows.items():
        cells = [_beside(shown[name], shown[control], name == control) for name in names]
        lines.append(f"| {title} | {len(shown[control])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _beside(found: dict[Place, bool], chance: dict[Place, bool], same: bool) -> str:
    """How many images show the concept, their share, and its difference from the control's."""
    hits = [float(hit) for hit in found.values()]
    cell = f"{sum(hits):.0f} {_percent(rate_interval(hits, [prompt for _, _, prompt in found]))}"
    if same:
        return cell
    both = [place for place in found if place in chance]
    after, before = ([float(judged[place]) for place in both] for judged in (found, chance))
    interval = rate_difference_interval(after, before, [prompt for _, _, prompt in both])
    return f"{cell}; {100 * (fmean(after) - fmean(before)):+.1f} {_percent(interval)}"


def _percent(interval: Interval | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _is(item: Item, prompts: str) -> bool:
    """Whether it is the erased model's image for one of a set of prompts."""
    return item["prompts"] == prompts and item["model"] == "erased"
