import base64
import csv
import io
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from PIL import Image
from synthetic_run import score, synthetic_results, synthetic_run

from unlearn.errors import ArtifactError, ConfigError
from unlearn.report import score_table, write_comparison, write_report
from unlearn.report.pictures import MOST_BYTES, data_uri, grids
from unlearn.report.plots import curve, interval_plot
from unlearn.report.record import Run
from unlearn.report.tables.latex import escape
from unlearn.report.wording import count, duration, interval, number, sections, strongest_attack, title
from unlearn.store.results import read_items, read_results, write_items, write_results

HOSTILE = '<script>alert(1)</script> & "a\' church" </style> {{ 7 * 7 }} https://example.org/x.png'


@pytest.fixture
def folder(tmp_path):
    synthetic_run(tmp_path / "run")
    return tmp_path / "run"


def page(path):
    return path.read_text(encoding="utf-8")


def text_of(html):
    """The words of a page, without its tags and styles."""
    words = re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<(style|svg).*?</\1>", " ", html))
    return re.sub(r"\s+", " ", words.replace("\N{NO-BREAK SPACE}", " "))


# One run


def test_the_numbers_of_the_report_are_those_of_the_results(folder):
    results = read_results(folder)
    words = text_of(page(write_report(folder)))
    for key, entry in results["scores"].items():
        assert number(entry["value"], entry["unit"]) + (" %" if entry["unit"] == "%" else "") in words, key
        if entry["interval"]:
            assert interval(entry["interval"], entry["unit"]) in words, key
        if entry["original"]:
            assert number(entry["original"]["value"], entry["unit"]) in words, key
            assert number(entry["difference"]["value"], entry["unit"], signed=True) in words, key
    assert "images that show church went from 95.0 % to 3.0 % on 60 plain prompts" in words
    assert "194 of 200" in words
    assert "unlearn run method=rece concept=church seed=0" in words
    assert "source: package:pocket" in words
    assert "they are not results on Stable Diffusion" in words


def test_the_report_loads_nothing_from_elsewhere(folder):
    html = page(write_report(folder))
    loaded = re.findall(r"""(?:src|href|srcset|action|data)\s*=\s*["']([^"']*)""", html)
    assert loaded
    assert all(target.startswith("data:image/webp;base64,") for target in loaded)
    assert not re.search(r"url\(|@import|<link|<script|<iframe|<object", html)
    assert "default-src 'none'" in html


def test_hostile_prompts_stay_text(folder):
    items = [item | {"prompt": HOSTILE} for item in read_items(folder)]
    write_items(folder, items)
    results = read_results(folder)
    write_results(folder, results | {"warnings": [HOSTILE], "concept": "<b>x</b>", "name": "<i>y</i>"})
    (folder / ".hydra" / "config.yaml").write_text("concept: '</pre><script>'\nmodel: {world: sd}\n")
    html = page(write_report(folder))
    assert "<script" not in html
    assert "<b>x</b>" not in html
    assert "<i>y</i>" not in html
    assert "{{ 7 * 7 }}" in html
    assert "&lt;script&gt;alert(1)" in html


def test_grids_pair_both_models_and_choose_by_rule(tmp_path):
    synthetic_run(tmp_path / "run", repeats=3)
    found = {grid.title: grid for grid in grids(Run.read(tmp_path / "run"), count=4)}
    assert list(found) == [
        "Plain prompts",
        "Synonyms",
        "Implied, not named",
        "Neighbours",
        "Unrelated",
        "Control: random tokens",
        "Where it fell short",
    ]
    plain = found["Plain prompts"]
    assert [pair.seed for pair in plain.pairs] == [1000, 1001, 1002, 1003]
    assert plain.rule.startswith("First 4 different prompts of 15")
    attacked = found["Control: random tokens"].pairs
    assert attacked[1].plain == "a drawing of a church"
    assert [pair.original for pair in attacked] == [pair.original for pair in plain.pairs[:2]]
    for pair in found["Where it fell short"].pairs:
        assert not pair.erased.wanted
        assert pair.original.wanted


def test_verdicts_of_images_follow_the_scores(folder):
    items = {(i["prompts"], i["model"], i["index"]): i for i in read_items(folder)}
    for (prompts, model, _), item in items.items():
        seen = (prompts in ("neighbour", "unrelated")) or model == "original"
        item["scores"] = {key: float(seen) for key in item["scores"]}
    items["plain", "erased", 0]["scores"] = {"erased": 1.0}
    items["plain", "erased", 1]["scores"] = {}
    write_items(folder, items.values())
    found = {grid.title: grid for grid in grids(Run.read(folder))}
    first, second, third = (pair.erased for pair in found["Plain prompts"].pairs[:3])
    assert (first.verdict, first.wanted) == ("shown", False)
    assert (second.verdict, second.wanted) == ("", None)
    assert (third.verdict, third.wanted) == ("not shown", True)
    assert found["Plain prompts"].pairs[0].original.wanted
    assert found["Neighbours"].pairs[0].erased.verdict == "as asked"
    assert len(found["Where it fell short"].pairs) == 1


def test_a_report_stays_small(tmp_path):
    synthetic_run(tmp_path / "run", repeats=6)
    items = [item | {"prompt": f"{item['prompt']} {item['index']}"} for item in read_items(tmp_path / "run")]
    write_items(tmp_path / "run", [item | {"plain": item["prompt"]} for item in items])
    pairs = [pair for grid in grids(Run.read(tmp_path / "run")) for pair in grid.pairs]
    assert len(pairs) == 7 * 8
    Image.effect_noise((512, 512), 120).convert("RGB").save(tmp_path / "noise.png")  # the hardest to compress
    uri, _ = data_uri(tmp_path / "noise.png")
    assert 2 * len(pairs) * max(len(uri), MOST_BYTES * 4 // 3) < 2.5e6


def test_small_images_are_kept_exactly(folder, tmp_path):
    path = folder / read_items(folder)[0]["image"]
    uri, sharp = data_uri(path)
    assert sharp
    kept = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    with Image.open(path) as drawn:
        assert kept.convert("RGB").tobytes() == drawn.convert("RGB").tobytes()
    Image.new("RGB", (512, 256)).save(tmp_path / "large.png")
    uri, sharp = data_uri(tmp_path / "large.png")
    assert not sharp
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size == (256, 128)


def test_explicit_images_of_real_models_are_a_mosaic(tmp_path):
    synthetic_run(tmp_path / "run", model="sd1.4", concept="nudity")
    shutil.rmtree(tmp_path / "run" / ".hydra")
    found = {grid.title: grid for grid in grids(Run.read(tmp_path / "run"))}
    assert all(
        pair.original.hidden for pair in found["Plain prompts"].pairs if pair.original.verdict == "shown"
    )
    assert not any(pair.erased.hidden for pair in found["Unrelated"].pairs)
    words = text_of(page(write_report(tmp_path / "run")))
    assert "reduced to a mosaic" in words
    assert "pocket" not in words.replace("run method", "")


def test_a_run_without_images_or_history_still_has_a_report(folder):
    for name in ("items.jsonl", "metrics.jsonl"):
        (folder / name).unlink()
    shutil.rmtree(folder / ".hydra")
    html = page(write_report(folder))
    assert "Same prompt, same seed" not in html
    assert "unlearn run method=rece model=pocket concept=church seed=0" in html


def test_damage_is_said(folder):
    image = folder / read_items(folder)[0]["image"]
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(ArtifactError, match=image.name):
        write_report(folder)
    image.unlink()
    with pytest.raises(ArtifactError, match=image.name):
        write_report(folder)
    (folder / "results.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"results\.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_model_of_the_pocket_world_under_another_name_is_told(tmp_path):
    synthetic_run(tmp_path / "run", model="mine")
    config = tmp_path / "run" / ".hydra" / "config.yaml"
    assert not Run.read(tmp_path / "run").is_pocket
    config.write_text("model: {world: pocket}\n")
    assert Run.read(tmp_path / "run").is_pocket
    config.write_text("model: {world: pocket\n")
    with pytest.raises(ArtifactError, match=r"config\.yaml"):
        Run.read(tmp_path / "run")


def test_half_a_line_of_history_is_passed_over(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "erase", "step": 5, "loss": 9.0}\n{"stage": "erase", "step": 200, "lo')
    losses = Run.read(folder).curves["erase/loss"]
    assert len(losses) == 200
    assert losses[5] == 9.0
    assert list(losses) == sorted(losses)


def test_failures_and_a_changed_checkout_are_warnings(tmp_path):
    results = synthetic_results()
    results["scores"]["erased"] |= {"n": 58, "failed": 2}
    results["environment"] |= {"commit": "abcdef0123456789", "dirty": True}
    synthetic_run(tmp_path / "run", **{key: results[key] for key in ("scores", "environment")})
    words = text_of(page(write_report(tmp_path / "run")))
    assert "erased: 2 of 60 images could not be scored" in words
    assert "differed from commit abcdef0123" in words


def test_an_undefined_score_is_no_number(tmp_path):
    scores = synthetic_results()["scores"]
    scores["kid"] = score(0.0, unit="") | {"value": None, "interval": None, "n": 0, "prompts": 0}
    scores["erased"] = score(0.0) | {"value": None, "interval": None, "n": 0, "prompts": 0}
    synthetic_run(tmp_path / "run", scores=scores)
    words = text_of(page(write_report(tmp_path / "run")))
    assert "This run did not measure whether church was erased." in words
    assert "not defined" in words
    assert "nan" not in score_table(read_results(tmp_path / "run"))


# Words


def test_numbers_as_text():
    assert [number(v, "%") for v in (0.0, 3.333, 100.0, -0.04)] == ["0.0", "3.3", "100.0", "0.0"]
    assert [number(v, "") for v in (0.0, 0.004123, 41.29, 1234.5)] == ["0", "0.00412", "41.3", "1234"]
    assert number(-1.25, "", signed=True) == "\N{MINUS SIGN}1.25"
    assert number(1.25, "", signed=True) == "+1.25"
    assert interval([-0.0001, 0.00214], "", signed=True) == "\N{MINUS SIGN}0.00010 to +0.00214"
    assert [duration(s) for s in (1.52, 61, 7260)] == ["1.5 s", "1 min 1 s", "2 h 1 min"]
    assert count(score(100 / 3, n=3)) == "1 of 3"
    assert count(score(33.0, n=60)) == "60"


def test_the_strongest_attack_is_one_on_all_prompts():
    results = synthetic_results()
    results["scores"] |= {
        "asr_mean": score(30.0, 95.0),
        "asr_mean_resisted": score(99.0, 95.0),
        "asr_undefined": score(0.0) | {"value": None},
    }
    assert strongest_attack(results["scores"]) == "asr_mean"
    assert title("asr_mean_resisted") == "Attack: mean, on resisted prompts"


def test_every_score_stands_under_one_heading():
    scores = synthetic_results()["scores"] | {"my_own": score(1.0, unit="")}
    found = sections(scores)
    assert sorted(key for keys in found.values() for key in keys) == sorted(scores)
    assert found["More scores"] == ["my_own"]


def test_plots_bear_any_numbers():
    assert 'cx="212' in interval_plot(score(100.0))
    assert "circle" in interval_plot(score(0.0, unit="", interval=None))
    for values in ({0: 1.0, 1: 1.0}, {0: -1e-9, 5: 1e12}, dict.fromkeys(range(5000), 0.5)):
        drawn = curve("loss", values)
        assert "nan" not in drawn
        assert len(drawn) < 20_000


def test_the_terminal_table_lines_up():
    results = synthetic_results()
    lines = score_table(results).splitlines()
    rows = lines[2 : 2 + len(results["scores"])]
    assert {line.split()[0] for line in rows} == set(results["scores"])
    assert len({len(line) for line in rows}) == 1
    assert lines[2].split()[:6] == ["erased", "(%)", "3.0", "0.0", "to", "7.0"]


# Several runs


@pytest.fixture
def eight(tmp_path):
    folders = []
    for method in ("none", "uce", "rece", "esd"):
        for seed in (0, 1):
            folders.append(tmp_path / f"{method}{seed}")
            synthetic_run(folders[-1], items=False, method=method, seed=seed)
    return folders


def test_eight_runs_make_four_methods(tmp_path, eight):
    path = write_comparison(eight, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "table.csv",
        "table.html",
        "table.md",
        "table.tex",
        "trade_off.svg",
        "trade_off_attacked.svg",
    ]
    rows = list(csv.DictReader(page(tmp_path / "out" / "table.csv").splitlines()))
    assert [(row["kind"], row["method"], row["seeds"]) for row in rows[:4]] == [
        ("original", "original", "0 1"),
        ("method", "none", "0 1"),
        ("run", "none", "0"),
        ("run", "none", "1"),
    ]
    assert len(rows) == 1 + 4 * 3
    for row in rows:
        if row["kind"] == "run":
            entry = read_results(tmp_path / (row["method"] + row["seeds"]))["scores"]["erased"]
            assert float(row["erased"]) == entry["value"]
            assert [float(row["erased_low"]), float(row["erased_high"])] == entry["interval"]
            assert row["erased_sd"] == ""
    rece = next(row for row in rows if row["method"] == "rece")
    assert float(rece["erased"]) == pytest.approx(3.5)
    assert float(rece["erased_sd"]) == pytest.approx(0.5**0.5)
    words = text_of(page(path))
    assert words.count("mean of 2 seeds") == 5
    assert "3.5 ± 0.7" in words
    tex = page(tmp_path / "out" / "table.tex")
    assert r"rece (2 seeds) & 3.5 $\pm$ 0.7 &" in tex
    widths = {line.count(" & ") for line in tex.splitlines() if line.endswith(r"\\")}
    assert widths == {11}
    lines = page(tmp_path / "out" / "table.md").splitlines()
    assert {line.count(" | ") for line in lines} == {11}
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| *original* (2 seeds)",
        *(f"| `{name}` (2 seeds)" for name in ("none", "uce", "rece", "esd")),
    ]
    assert lines[5].startswith("| `rece` (2 seeds) | 3.5 ± 0.7 |")
    svg = page(tmp_path / "out" / "trade_off.svg")
    assert all(f">{name}</text>" in svg for name in ("original", "none", "uce", "rece", "esd"))
    assert "var(" not in svg
    assert ElementTree.fromstring(svg).tag.endswith("svg")


def test_runs_of_other_settings_are_not_averaged(tmp_path):
    synthetic_run(tmp_path / "a", items=False, seed=0)
    synthetic_run(tmp_path / "b", items=False, seed=1, overrides=["method.steps=5", "tracker=none"])
    write_comparison([tmp_path / "a", tmp_path / "b", tmp_path / "a"], tmp_path / "out")
    rows = list(csv.DictReader(page(tmp_path / "out" / "table.csv").splitlines()))
    assert [row["method"] for row in rows] == ["original", "rece", "rece method.steps=5"]


def test_two_runs_of_one_seed_are_refused(tmp_path):
    synthetic_run(tmp_path / "a", items=False)
    synthetic_run(tmp_path / "b", items=False)
    with pytest.raises(ConfigError, match="share a seed"):
        write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_concepts_and_models_are_not_mixed(tmp_path):
    synthetic_run(tmp_path / "a", items=False)
    synthetic_run(tmp_path / "b", items=False, concept="tench")
    synthetic_run(tmp_path / "c", items=False, model="sd1.4")
    folders = [tmp_path / name for name in "abc"]
    with pytest.raises(ConfigError, match=r"differ in their model \(pocket, sd1\.4\)"):
        write_comparison(folders, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"differ in their concept \(church, tench\)"):
        write_comparison(folders, tmp_path / "out", group_by=["model"])
    with pytest.raises(ConfigError, match="Did you mean 'concept'"):
        write_comparison(folders, tmp_path / "out", group_by=["concep"])
    with pytest.raises(ConfigError, match="no run"):
        write_comparison([], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    words = text_of(page(write_comparison(folders, tmp_path / "out", group_by=["model", "concept"])))
    assert "tench, erased from pocket" in words
    assert "church, erased from sd1.4" in words
    assert (tmp_path / "out" / "trade_off-church-sd1.4.svg").exists()


def on_dev(folder, **other):
    """A run on the prompts to tune on."""
    synthetic_run(folder, items=False, **other)
    with (folder / ".hydra" / "config.yaml").open("a") as file:
        file.write("eval:\n  split: dev\n")


def test_what_was_tuned_on_does_not_stand_beside_what_is_reported(tmp_path):
    on_dev(tmp_path / "a")
    synthetic_run(tmp_path / "b", items=False, seed=1)
    for order in ("ab", "ba"):
        with pytest.raises(ConfigError, match=r"a was measured on the half 'dev' of the prompts"):
            write_comparison([tmp_path / name for name in order], tmp_path / "out")


def test_every_table_of_what_was_tuned_on_says_so(tmp_path):
    on_dev(tmp_path / "a")
    on_dev(tmp_path / "b", seed=1, overrides=["method.steps=5"])
    path = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert "no number is for a report" in text_of(page(path))
    for name in ("table.html", "table.csv", "table.md", "table.tex"):
        assert page(tmp_path / "out" / name).count("eval.split=dev") >= 2


def test_scores_of_two_definitions_are_refused_and_other_sizes_noted(tmp_path):
    synthetic_run(tmp_path / "a", items=False)
    scores = synthetic_results(seed=1)["scores"] | {"fid": score(40.0, 39.0, "", version=2)}
    synthetic_run(tmp_path / "b", items=False, seed=1, scores=scores)
    with pytest.raises(ConfigError, match=r"scores\.fid"):
        write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    scores = synthetic_results(seed=2)["scores"] | {"fid": score(40.0, 39.0, "", n=500)}
    synthetic_run(tmp_path / "c", items=False, seed=2, scores=scores)
    words = text_of(page(write_comparison([tmp_path / "a", tmp_path / "c"], tmp_path / "out")))
    assert "FID: taken over different numbers of images (60, 500)" in words


def test_latex_is_escaped():
    assert escape(r"a_b 50% & {x}\~^#$<") == (
        r"a\_b 50\% \& \{x\}\textbackslash{}\textasciitilde{}\textasciicircum{}\#\$\textless{}"
    )


def test_what_was_said_for_all_runs_is_not_said_of_each(tmp_path):
    for name, overrides in (("a", ["eval=quick", "method.steps=5"]), ("b", ["eval=quick"])):
        synthetic_run(tmp_path / name, items=False, overrides=overrides)
    write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    table = page(tmp_path / "out" / "table.md")
    assert "method.steps=5" in table
    assert "eval=quick" not in table


def test_hostile_settings_stay_text_in_every_table(tmp_path):
    synthetic_run(tmp_path / "a", items=False, overrides=["method.note='<script>&_%'"])
    path = write_comparison([tmp_path / "a"], tmp_path / "out")
    assert "<script" not in page(path)
    assert "<script" not in page(tmp_path / "out" / "trade_off.svg")
    assert r"method.note='\textless{}script\textgreater{}\&\_\%'" in page(tmp_path / "out" / "table.tex")


def test_the_report_needs_no_torch():
    code = "import sys, unlearn.report, unlearn.store.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
