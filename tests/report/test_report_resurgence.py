"""Curves of resurgence in the report, on made-up numbers."""

import re
from xml.etree import ElementTree

import pytest
from synthetic_run import synthetic_results, synthetic_run

from unlearn.report import score_table, write_comparison, write_report
from unlearn.report.resurgence import figures, lines, reached

STEPS = ("0", "5", "20", "100")


def point(at, label, value, original=None):
    whole = None if original is None else {"value": original, "interval": [original - 4, original + 4]}
    ends = None if value is None else [max(value - 3, 0.0), value + 3]
    return {"at": at, "label": label, "value": value, "interval": ends, "n": 16, "original": whole}


def trained(name, values, half):
    points = [
        point(int(label), label, value, 92.0 if label == "0" else None)
        for label, value in zip(STEPS, values, strict=True)
    ]
    return {"name": name, "axis": "steps", "points": points, "half": half, "seconds": 2.0}


CURVES = [
    trained("relearn", [2.5, 30.25, 61.0, 88.0], 20),
    trained("relearn_unrelated", [2.5, 3.5, None, 7.5], None),
    {
        "name": "guidance",
        "axis": "guidance scale",
        "points": [point(4.0, "4", 2.5, 92.0), point(1.0, "1", 1.25, 71.0), point(9.0, "9", 55.0, 96.0)],
        "half": 9.0,
        "seconds": 3.0,
    },
]


def words_of(path):
    html = re.sub(r"(?s)<(style|svg).*?</\1>", " ", path.read_text())
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html).replace("\N{NO-BREAK SPACE}", " "))


def test_the_report_shows_every_number(tmp_path):
    synthetic_run(tmp_path / "run", resurgence=CURVES)
    words = words_of(write_report(tmp_path / "run"))
    assert "How fast it comes back" in words
    for curve in CURVES:
        assert curve["name"].replace("_", " ") in words
        for one in curve["points"]:
            for measured in filter(None, (one if one["value"] is not None else None,)):
                assert f"{measured['value']:.1f} %" in words
                assert f"{measured['interval'][0]:.1f} to {measured['interval'][1]:.1f}" in words
    assert "71.0 %" in words  # the original's under other guidance
    assert words.count("not reached") == 1


def test_a_run_without_curves_has_no_section(tmp_path):
    synthetic_run(tmp_path / "run")
    assert "How fast it comes back" not in words_of(write_report(tmp_path / "run"))
    assert figures(synthetic_results()) == []
    assert lines(synthetic_results()) == []


def test_curves_over_the_same_places_share_a_figure():
    trainings, guidance = figures(synthetic_results(resurgence=CURVES))
    assert (trainings.title, trainings.labels) == ("steps", list(STEPS))
    assert [(name, half) for name, _, half in trainings.rows] == [
        ("relearn", "20"),
        ("relearn unrelated", None),
    ]
    assert [(name, half) for name, _, half in guidance.rows] == [("original", ""), ("guidance", "9")]
    assert trainings.rows[1][1][2] is None
    assert guidance.labels == ["1", "4", "9"]
    assert [value["value"] for value in guidance.rows[1][1]] == [1.25, 2.5, 55.0]
    noise = [point(1, "noise", 2.5, 92.0), point(0.8, "0.8", 9.0, 92.0), point(0.6, "0.6", 40.0, 92.0)]
    (start,) = figures(synthetic_results(resurgence=[{**CURVES[2], "points": noise}]))
    assert start.labels == ["noise", "0.8", "0.6"]
    longer = {**CURVES[0], "points": CURVES[0]["points"][:3]}
    assert len(figures(synthetic_results(resurgence=[*CURVES, longer]))) == 3


def test_the_figure_has_a_line_for_each_curve_and_the_originals_level():
    trainings, guidance = (
        ElementTree.fromstring(str(figure.plot)) for figure in figures(synthetic_results(resurgence=CURVES))
    )

    def names(plot):
        return [element.text for element in plot.iter() if element.get("class") == "name"]

    assert names(trainings) == ["original", "relearn", "relearn unrelated"]
    assert names(guidance) == ["original", "guidance"]
    hollow = [e.get("fill").startswith("var") for e in guidance.iter() if e.get("r") == "4"]
    assert hollow == [
        True,
        True,
        True,
        False,
        True,
        False,
    ]  # the original's three, then the erased model as it is
    ways = [e.get("points").split() for e in trainings.iter() if e.tag.endswith("polyline")]
    level = max(ways[:2], key=len)
    assert len(level) == 4
    assert len({pair.split(",")[1] for pair in level}) == 1  # it is not trained on: the same at all places
    assert sorted(map(len, ways[2:])) == [1, 1, 3, 4]  # one share is missing
    texts = [element.text for element in trainings.iter() if element.tag.endswith("text")]
    assert "steps" in texts
    assert set(STEPS) <= set(texts)


def test_the_terminal_says_where_half_is_reached():
    said = lines(synthetic_results(resurgence=CURVES))
    assert [re.sub("\N{NO-BREAK SPACE}", " ", line) for line in said] == [
        "Resurgence, relearn: 2.5 % of 16 as erased, at most 88.0 % at 100 (steps); half of the original's "
        "from 20",
        "Resurgence, relearn unrelated: 2.5 % of 16 as erased, at most 7.5 % at 100 (steps); half of the "
        "original's nowhere",
        "Resurgence, guidance: 2.5 % of 16 as erased, at most 55.0 % at 9 (guidance scale); half of the "
        "original's from 9",
    ]
    assert said[0] in score_table(synthetic_results(resurgence=CURVES))
    assert reached(CURVES[1]) is None
    weak = lines(synthetic_results(resurgence=[trained("relearn", [60.0, 61.0, 70.0, 88.0], 0)]))
    assert weak[0].endswith("half of the original's as erased")


def test_methods_stand_in_one_plot_for_each_way_of_coming_back(tmp_path):
    for name, seed, end in (("uce", 0, 88.0), ("esd", 0, 40.0), ("esd", 1, 60.0)):
        own = [
            CURVES[1],
            trained("relearn", [2.5, 30.0, None if name == "uce" else 50.0, end], 20),
            CURVES[2],
        ]
        synthetic_run(tmp_path / f"{name}{seed}", items=False, method=name, seed=seed, resurgence=own)
    page = write_comparison(sorted(tmp_path.glob("*[01]")), tmp_path / "out").read_text()
    assert page.count("How fast it comes back") == 1
    tree = ElementTree.fromstring((tmp_path / "out" / "back_relearn.svg").read_text())
    assert {"original", "uce", "esd", *STEPS} <= {e.text for e in tree.iter() if e.tag.endswith("text")}
    _, uce, esd = [e.get("points").split() for e in tree.iter() if e.tag.endswith("polyline")][1::2]
    if len(uce) == 4:
        uce, esd = esd, uce
    assert (len(uce), len(esd)) == (3, 4)
    heights = [float(point.split(",")[1]) for point in (esd[0], esd[-1], uce[-1])]
    # From 2.5 to the mean of 40 and 60, and to 88 %.
    assert (heights[0] - heights[1]) / (heights[0] - heights[2]) == pytest.approx(47.5 / 85.5, abs=0.01)
    names = {path.name for path in (tmp_path / "out").glob("back_*.svg")}
    assert names == {"back_relearn.svg", "back_relearn_unrelated.svg", "back_guidance.svg"}
    other = [trained("relearn", [1.0, 2.0, 3.0, 4.0], None)]
    other[0]["points"][3]["label"] = "200"
    synthetic_run(tmp_path / "x", items=False, method="rece", resurgence=other)
    write_comparison(sorted(tmp_path.glob("[!o]*")), tmp_path / "out")
    assert (tmp_path / "out" / "back_relearn_1.svg").exists()
