"""The report of a sequence, on made-up numbers."""

import re
from xml.etree import ElementTree

import pytest
from PIL import Image
from synthetic_run import score, synthetic_results, synthetic_run

from unlearn.errors import ArtifactError, ConfigError
from unlearn.report import score_table, write_comparison, write_report
from unlearn.report.conclusion import conclusion
from unlearn.report.plots import Line, by_step
from unlearn.report.record import Run
from unlearn.report.steps import lines, section
from unlearn.store.results import read_items, read_results, write_results

CONCEPTS = ("church", "neon", "garbage_truck")


def steps(lost=5.0, names=CONCEPTS):
    found = []
    for number, name in enumerate(names, start=1):
        concepts = {
            other: score(3.0 + index if index < number else 90.0 - number, 95.0, n=16)
            for index, other in enumerate(names)
        }
        kept = {
            key: score(97.0 - lost * number, 97.0, n=24, better="higher") for key in ("retained", "unrelated")
        }
        entry = {"erased": score(2.0 * number, 95.0, n=16 * number), **kept}
        found.append(
            {
                "concept": name,
                "scores": entry,
                "concepts": concepts,
                "drift": 0.01 * number,
                "erase_seconds": 1.5,
                "unet_forwards": 100,
            }
        )
    return found


def sequence(folder, **changes):
    """A run folder, with images of every step beside those of the last."""
    synthetic_run(folder, **{"concept": "sequence", "steps": steps(), **changes})
    results = read_results(folder)
    for item in read_items(folder):
        if item["prompts"] == "plain" and item["index"] < 3:
            for place in ("original", "step1", "step2", "last"):
                path = folder / "art" / place / f"{item['index']:05d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), (item["index"] * 40, 10, 10)).save(path)
    keys = ["images:original:plain", "step1:images:erased:plain", "step2:images:erased:plain"]
    places = dict(zip([*keys, "images:erased:plain"], ("original", "step1", "step2", "last"), strict=True))
    artifacts = {key: {"fingerprint": "ab", "path": f"art/{place}"} for key, place in places.items()}
    write_results(folder, results | {"artifacts": results["artifacts"] | artifacts})
    for path in folder.glob("images/plain-erased-*.png"):  # as a store names them
        path.rename(path.with_name(f"{int(path.stem.rpartition('-')[2]):05d}.png"))
    text = (folder / "items.jsonl").read_text()
    renamed = re.sub(r"plain-erased-(\d+)\.png", lambda found: f"{int(found.group(1)):05d}.png", text)
    (folder / "items.jsonl").write_text(renamed)
    return folder


def words_of(path):
    html = path.read_text()
    words = re.sub(r"<[^>]*>", " ", re.sub(r"(?s)<style.*?</style>", " ", html))
    return re.sub(r"\s+", " ", words.replace("\N{NO-BREAK SPACE}", " "))


def test_a_sequence_is_shown_step_by_step(tmp_path):
    folder = sequence(tmp_path / "run")
    words = words_of(write_report(folder))
    assert "Step by step" in words
    for number, step in enumerate(steps(), start=1):
        name = step["concept"].replace("_", " ")
        assert f"{number}. {name}" in words
        for entry in (*step["concepts"].values(), *step["scores"].values()):
            assert f"{entry['value']:.1f} %" in words
            low, high = entry["interval"]
            assert f"{low:.1f} to {high:.1f}" in words
    assert "church n 16" in words
    assert "neighbours kept n 24" in words
    assert "· n 16" in words  # of the first step: the concepts so far become more
    assert "· n 48" in words
    assert "3.0 %" in words  # the drift of the last step
    assert "rece erased all 3 concepts from pocket in name only: images that show them went from" in words


def test_an_ordinary_run_has_no_steps(tmp_path):
    synthetic_run(tmp_path / "run")
    assert section(Run.read(tmp_path / "run")) is None
    assert "Step by step" not in words_of(write_report(tmp_path / "run"))
    assert lines(synthetic_results()) == []


def test_the_table_tells_what_is_gone_from_what_waits(tmp_path):
    found = section(Run.read(sequence(tmp_path / "run")))
    assert found.columns == [
        ("church", 16),
        ("neon", 16),
        ("garbage truck", 16),
        ("erased, still shown", None),
        ("neighbours kept", 24),
        ("unrelated kept", 24),
    ]
    states = [[cell.state for cell in cells[:3]] for _, cells, _ in found.rows]
    assert states == [
        ["", "", ""],
        ["gone", "waiting", "waiting"],
        ["gone", "gone", "waiting"],
        ["gone", "gone", "gone"],
    ]
    assert [cells[0].measured["value"] for _, cells, _ in found.rows] == [95.0, 3.0, 3.0, 3.0]
    assert [cells[1].measured["value"] for _, cells, _ in found.rows] == [95.0, 89.0, 4.0, 4.0]
    assert found.rows[0][1][3].measured is None
    assert [cells[4].measured["value"] for _, cells, _ in found.rows] == [97.0, 92.0, 87.0, 82.0]


def test_curves_are_drawn_for_every_concept_and_for_what_is_kept(tmp_path):
    each, together = section(Run.read(sequence(tmp_path / "run"))).plots
    for plot, names in (
        (each, CONCEPTS),
        (together, ("erased, still shown", "neighbours kept", "unrelated kept")),
    ):
        tree = ElementTree.fromstring(str(plot))
        said = {element.text for element in tree.iter() if element.tag.endswith("text")}
        assert {name.replace("_", " ") for name in names} <= said
        assert {"original", "church", "neon", "garbage truck"} <= said


def test_a_line_falls_where_its_numbers_do():
    values = [{"value": v, "interval": [v - 5, v + 5]} for v in (100.0, 90.0, 0.0)]
    tree = ElementTree.fromstring(str(by_step([Line("church", values, gone_from=2)], ["o", "a", "b"], "y")))
    faint, solid = [e.get("points") for e in tree.iter() if e.tag.endswith("polyline")]
    heights = [float(point.split(",")[1]) for point in faint.split()]
    assert heights == sorted(heights)
    assert heights[2] - heights[1] == pytest.approx(9 * (heights[1] - heights[0]), abs=0.5)
    assert solid == faint.split()[-1]
    many = by_step([Line("x", [None, *values])], [f"name {i}" for i in range(12)], "y")
    assert "name 3" not in many
    assert ">11</text>" in many


def test_strips_show_each_step_of_the_first_prompts(tmp_path):
    folder = sequence(tmp_path / "run")
    found = section(Run.read(folder)).strips
    assert [strip.prompt for strip in found] == [
        "a church",
        "a drawing of a church",
        "a church on a blue background",
    ]
    assert [len(strip.pictures) for strip in found] == [4, 4, 4]
    assert all(sharp for strip in found for _, sharp in strip.pictures)
    (folder / "art" / "step1" / "00000.png").unlink()
    with pytest.raises(ArtifactError, match=r"00000\.png"):
        write_report(folder)


def test_explicit_images_of_real_models_are_a_mosaic_in_strips_too(tmp_path):
    plain = section(Run.read(sequence(tmp_path / "a"))).strips[1].pictures[0]
    real = sequence(tmp_path / "b", model="sd1.4")
    (real / ".hydra" / "config.yaml").write_text(
        "concept: {kind: nudity}\nmodel: {world: sd}\n# kind: nudity\n"
    )
    assert section(Run.read(real)).strips[1].pictures[0] != plain


def test_the_terminal_has_a_line_for_each_step():
    results = synthetic_results(concept="sequence", steps=steps())
    table = score_table(results)
    assert (
        "After step 2, neon: 4.0 % of 32 still show what is erased, 87.0 % of 24 neighbours kept"
        in table.replace("\N{NO-BREAK SPACE}", " ")
    )
    assert table.count("After step") == 3
    assert "all 3 concepts" in str(conclusion(results))


@pytest.mark.parametrize("damage", [{"concepts": {"church": None}}, {"drift": None}, {"scores": 3}])
def test_damaged_steps_are_refused(damage, tmp_path):
    broken = steps()
    broken[1] |= damage
    with pytest.raises(ArtifactError, match=r"steps\[1\]\."):
        synthetic_run(tmp_path / "run", steps=broken)


def test_methods_that_ran_one_sequence_are_compared_step_by_step(tmp_path):
    for name, seed, lost in (("uce", 0, 5.0), ("duge", 0, 2.0), ("duge", 1, 4.0)):
        made = steps(lost)
        synthetic_run(
            tmp_path / f"{name}{seed}", items=False, method=name, seed=seed, concept="sequence", steps=made
        )
    folders = sorted(tmp_path.glob("*[01]"))
    page = write_comparison(folders, tmp_path / "out").read_text()
    assert "Step by step" in page
    svg = (tmp_path / "out" / "steps_retained.svg").read_text()
    tree = ElementTree.fromstring(svg)
    assert {"uce", "duge"} <= {e.text for e in tree.iter() if e.tag.endswith("text")}
    solid = [e.get("points").split() for e in tree.iter() if e.tag.endswith("polyline")][1::2]
    duge, uce = ([float(point.split(",")[1]) for point in points] for points in solid)
    assert uce[3] - uce[0] == pytest.approx(
        15 / 9 * (duge[3] - duge[0]), rel=0.02
    )  # lost 15 against 9 points
    assert (tmp_path / "out" / "steps_erased.svg").exists()
    other = steps(names=("neon", "church", "garbage_truck"))
    synthetic_run(tmp_path / "x", items=False, method="esd", concept="sequence", steps=other)
    with pytest.raises(
        ConfigError, match=r"another sequence \(neon, church, garbage_truck\) than .*\(church,"
    ):
        write_comparison([*folders, tmp_path / "x"], tmp_path / "other")
