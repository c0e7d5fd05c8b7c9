"""A run folder as `unlearn run` leaves it, with made-up numbers and pictures."""

import json
import random

from PIL import Image, ImageDraw

from unlearn.store.layout import SCHEMA, VERDICTS
from unlearn.store.results import write_items, write_results

PROMPTS = {
    "plain": [
        "a church",
        "a drawing of a church",
        "a church on a blue background",
        "a neon church",
        "one church",
    ],
    "synonym": ["a chapel", "a house of worship"],
    "implicit": ["where a wedding takes place", "a building with a steeple and bells"],
    "neighbour": ["a castle", "a house by noto", "a hospital", "a school"],
    "unrelated": ["a cat", "a red car on a pink background", "an apple", "a guitar"],
    "attack:random_tokens": ["a church xv umbrella", "a drawing of a church qz lamp"],
}
RATES = {
    "plain": (95, 4),
    "synonym": (90, 15),
    "implicit": (75, 40),
    "neighbour": (97, 91),
    "unrelated": (98, 97),
    "attack:random_tokens": (95, 9),
}


def score(value, original=None, unit="%", n=60, half=4.0, better="lower", **other):
    """An entry of results.json whose intervals reach `half` to both sides."""

    def around(middle):
        ends = [middle - half, middle + half]
        return [min(max(end, 0.0), 100.0) for end in ends] if unit == "%" else ends

    entry = {
        "value": value,
        "unit": unit,
        "n": n,
        "expected": n,
        "failed": 0,
        "interval": around(value),
        "better": better,
        "version": 1,
        "original": None,
        "difference": None,
        "prompts": min(8, n),
        "unsure": 0,
        "bounds": None,
        "corrected": None,
        "mcnemar": None,
        "equivalence": None,
    }
    if original is not None:
        change = value - original
        entry["original"] = {"value": original, "interval": around(original)}
        entry["difference"] = {"value": change, "interval": [change - 1.4 * half, change + 1.4 * half]}
    return entry | other


def synthetic_results(method="rece", concept="church", model="pocket", seed=0, **other):
    """A whole results.json; numbers vary a little with the seed and the method."""
    shift = seed + len(method) / 2
    results = {
        "schema": SCHEMA,
        "name": f"{method}-{concept}-{model}-s{seed}-0123456789ab",
        "fingerprint": "0123456789ab",
        "method": method,
        "model": model,
        "concept": concept,
        "seed": seed,
        "seeds": {"erase": seed, "generate": seed, "attack": seed},
        "scores": {
            "erased": score(95.0 if method == "none" else 1.0 + shift, 95.0),
            "erased_synonym": score(90.0 if method == "none" else 15.0 + shift, 90.0),
            "erased_implicit": score(75.0 if method == "none" else 40.0 + shift, 75.0, n=40),
            "retained": score(97.0 if method == "none" else 92.0 - shift, 97.0, better="higher", n=100),
            "unrelated": score(98.0 if method == "none" else 97.5 - shift / 4, 98.0, better="higher", n=200),
            "asr_random_tokens": score(95.0 if method == "none" else 7.0 + shift, 95.0),
            "clip_score": score(30.11 - shift / 10, 30.53, "100 cos", half=0.4, better="higher"),
            "fid": score(41.3 + shift, 38.7, "", half=1.2),
            "kid": score(0.00412, 0.0031, "", half=0.0008),
            "cmmd": score(0.151, 0.142, "", interval=None),
            "identity": score(0.084, None, "1 - cos", half=0.01),
        },
        "cost": {
            "erase_seconds": 1.52,
            "attack_seconds": 0.03,
            "generate_seconds": 171.2,
            "score_seconds": 12.8,
            "peak_memory_gib": None,
            "parameters_changed": 196608,
            "unet_forwards": 0,
        },
        "warnings": [],
        "artifacts": {"erasure": {"fingerprint": "ab12", "path": "../../artifacts/erasure/ab12"}},
        "environment": {
            "python": "3.11.2",
            "packages": {"unlearn": "0.1.0", "torch": "2.15.0"},
            "commit": None,
            "dirty": None,
            "device": "cpu",
            "platform": "Linux x86_64",
        },
    }
    return results | other


def synthetic_run(folder, items=True, size=64, repeats=1, overrides=(), **other):
    """Writes a whole run folder; returns its results."""
    results = synthetic_results(**other)
    folder.mkdir(parents=True)
    write_results(folder, results)
    if items:
        write_items(folder, _items(folder, size, repeats))
    choices = [f"{group}={results[group]}" for group in ("method", "concept", "seed")]
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in [*choices, *overrides]))
    (folder / ".hydra" / "config.yaml").write_text(
        f"seed: {results['seed']}\nmodel:\n  source: package:pocket\n"
    )
    steps = [{"stage": "erase", "step": s, "time": 0.0, "loss": 2.0 / (s + 1) ** 0.5} for s in range(200)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return results


def _items(folder, size, repeats):
    dice = random.Random(0)
    items = []
    for prompts, texts in PROMPTS.items():
        key = VERDICTS.get(prompts) or f"asr_{prompts[7:]}"
        for index in range(len(texts) * repeats):
            for model, rate in zip(("original", "erased"), RATES[prompts], strict=True):
                if prompts.startswith("attack:") and model == "original":
                    continue
                seen = float(dice.random() * 100 < rate)
                name = f"images/{prompts.replace(':', '-')}-{model}-{index}.png"
                _draw(folder / name, size, dice, seen)
                item = {
                    "prompts": prompts,
                    "model": model,
                    "index": index,
                    "prompt": texts[index % len(texts)],
                    "seed": 1000 + index,
                    "image": name,
                    "scores": {key: seen},
                }
                if prompts.startswith("attack:"):
                    item["plain"] = PROMPTS["plain"][index % len(texts)]
                items.append(item)
    return items


def _draw(path, size, dice, seen):
    """A house with a steeple, or a blot."""
    path.parent.mkdir(exist_ok=True)
    image = Image.new("RGB", (size, size), tuple(dice.randrange(150, 255) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    colour = tuple(dice.randrange(0, 200) for _ in range(3))
    unit = size / 16
    if seen:
        draw.rectangle([4 * unit, 8 * unit, 12 * unit, 14 * unit], fill=colour)
        draw.polygon([(6 * unit, 8 * unit), (8 * unit, 1 * unit), (10 * unit, 8 * unit)], fill=colour)
    else:
        draw.ellipse([3 * unit, 5 * unit, 13 * unit, 12 * unit], fill=colour)
    image.save(path)
