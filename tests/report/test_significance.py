"""Which methods differ from the best, and several seeds, in the tables of runs whose outcomes are known."""

import csv

import pytest
from synthetic_run import score, synthetic_results

from unlearn.report import write_comparison
from unlearn.report.record import Run
from unlearn.report.tables.outcomes import outcomes
from unlearn.report.tables.significance import compare, power_note
from unlearn.statistics.comparisons import mcnemar_p
from unlearn.statistics.seeds import over_seeds
from unlearn.store.results import write_items, write_results


def known_run(folder, method, shown, seed=0, images=1, original=None, attack=None):
    """A run whose plain images show the concept as told, so many of each prompt."""
    n, hits = len(shown), sum(shown)
    before = original or [1] * n
    entry = score(100 * hits / n, 100 * sum(before) / n, n=n, half=0)
    scores = {"erased": entry}
    if attack:
        both = [max(pair) for pair in zip(shown, attack, strict=True)]
        scores["asr_p4d"] = score(100 * sum(both) / n, 100 * sum(before) / n, n=n, half=0)
    folder.mkdir()
    write_results(folder, synthetic_results(method=method, seed=seed, scores=scores))
    items = []
    for index in range(n):
        item = {
            "prompts": "plain",
            "index": index,
            "prompt": f"church {index // images}",
            "seed": 100 * seed + index,
        }
        for model, seen in (("original", before[index]), ("erased", shown[index])):
            name = f"{model}-{index}.png"
            items.append({**item, "model": model, "image": name, "scores": {"erased": float(seen)}})
        if attack:
            found = {"prompts": "attack:p4d", "prompt": f"xq {method} {index}", "plain": item["prompt"]}
            shows = {"asr_p4d": float(attack[index])}
            items.append({**item, **found, "model": "erased", "image": f"p4d-{index}.png", "scores": shows})
    write_items(folder, items)
    return folder


def table(tmp_path, folders):
    write_comparison(folders, tmp_path / "out")
    return (tmp_path / "out" / "table.md").read_text()


def rows(tmp_path):
    with (tmp_path / "out" / "table.csv").open() as file:
        return {row["method"]: row for row in csv.DictReader(file) if row["kind"] != "run"}


def cells(text, method):
    """The row of a method in the table of those that differ from the best."""
    return [line.strip("| ").split(" | ") for line in text.splitlines() if f" | `{method}` | " in line]


def test_each_method_is_held_against_the_best(tmp_path):
    n = 20
    folders = [
        known_run(tmp_path / "none", "none", [1] * n),
        known_run(tmp_path / "esd", "esd", [0] * n),
        known_run(tmp_path / "uce", "uce", [1] * 12 + [0] * 8),
        known_run(tmp_path / "rece", "rece", [1] * 2 + [0] * 18),
    ]
    text = table(tmp_path, folders)
    ((*start, p),) = cells(text, "uce")
    assert start == ["Concept shown, plain", "`esd`", "`uce`", "12", "0", "20"]
    assert p == "< .001"
    ((*start, p),) = cells(text, "rece")
    assert start[3:] == ["2", "0", "20"]
    assert p.startswith(".50 (20 images could show ")
    assert "the 10 seen would need" in p
    assert "`none` | " not in text[text.index("Beside the best") :], "it erases nothing"
    found = rows(tmp_path)
    assert float(found["uce"]["erased_p"]) == pytest.approx(2 * mcnemar_p(12, 0))
    assert float(found["rece"]["erased_p"]) == pytest.approx(mcnemar_p(2, 0))
    assert found["esd"]["erased_p"] == found["none"]["erased_p"] == found["original"]["erased_p"] == ""
    html = (tmp_path / "out" / "table.html").read_text()
    assert "Which differ from the best" in html
    assert "evaluation only" in html
    assert "uce beside esd, p = < .001 (McNemar, Holm)" in (tmp_path / "out" / "table.tex").read_text()


def test_one_method_alone_is_compared_with_nothing(tmp_path):
    text = table(
        tmp_path, [known_run(tmp_path / "none", "none", [1] * 4), known_run(tmp_path / "a", "esd", [0] * 4)]
    )
    assert "Beside the best" not in text


def test_prompts_and_not_images_are_compared(tmp_path):
    folders = [
        known_run(tmp_path / "esd", "esd", [0] * 24, images=8),
        known_run(tmp_path / "uce", "uce", [1] * 24, images=8),
    ]
    ((*_, p),) = cells(table(tmp_path, folders), "uce")
    assert p.startswith(".25 (24 images could not show any")


def test_an_attack_counts_what_shows_without_it(tmp_path):
    folders = [
        known_run(tmp_path / "esd", "esd", [0] * 8, attack=[0] * 8),
        known_run(tmp_path / "uce", "uce", [1] * 4 + [0] * 4, attack=[0] * 4 + [1] * 4),
    ]
    assert [row[3:6] for row in cells(table(tmp_path, folders), "uce")] == [["4", "0", "8"], ["8", "0", "8"]]


def test_runs_of_other_seeds_share_no_images(tmp_path):
    folders = [known_run(tmp_path / "a", "esd", [0] * 8), known_run(tmp_path / "b", "uce", [1] * 8, seed=1)]
    assert "Beside the best" not in table(tmp_path, folders)


def test_higher_is_better_where_it_is(tmp_path):
    one, other = (
        outcomes([Run.read(known_run(tmp_path / m, m, shown))], "erased")
        for m, shown in (("a", [0, 1]), ("b", [1, 1]))
    )
    assert compare({"a": one, "b": other}, "higher").best == "b"
    assert compare({"a": one, "b": other}, "lower").best == "a"
    assert compare({"a": one}, "lower") is None


def test_a_note_says_what_the_images_could_have_told():
    names = [str(i) for i in range(64)]
    said = power_note([1] * 3 + [-1] + [0] * 60, names)
    assert said == "64 images could show 12 points, the 3 seen would need 500"
    assert power_note([0] * 64, names) == "64 images could show 12 points"
    assert power_note([1, 0, 0, 0], list("abcd")).startswith("4 images could not show any")


def test_several_seeds_have_the_interval_of_erasures_and_prompts(tmp_path):
    shown = [[1, 0, 0, 0, 0, 0, 0, 1], [0] * 8, [1, 1, 0, 0, 0, 0, 0, 0]]
    folders = [known_run(tmp_path / str(i), "esd", one, seed=i) for i, one in enumerate(shown)]
    text = table(tmp_path, folders)
    found = over_seeds(shown, [[f"church {i}" for i in range(8)]] * 3, rate=True)
    low, high = (100 * end for end in found.interval)
    assert f"| 16.7 ± 14.4 [{low:.1f}, {high:.1f}] |" in text
    row = rows(tmp_path)["esd"]
    assert [float(row[f"erased_{part}"]) for part in ("low", "high")] == pytest.approx([low, high])
    split = [float(row[f"erased_sd_{part}"]) for part in ("seed", "prompt", "rest")]
    parts = found.split
    assert split == pytest.approx([100 * part for part in (parts.seed, parts.prompt, parts.residue)])
    html = (tmp_path / "out" / "table.html").read_text()
    assert f"seed {split[0]:.1f}, prompt {split[1]:.1f}, rest {split[2]:.1f}" in html
    # The original model is one: all its 24 images of 8 prompts, all alike.
    original = rows(tmp_path)["original"]
    assert float(original["erased_high"]) == 100
    assert float(original["erased_low"]) == pytest.approx(100 * 0.025 ** (1 / 8))
