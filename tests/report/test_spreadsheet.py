"""What a program that opens a comparison must not run, and what is read back from it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from synthetic_run import synthetic_run

from unlearn.report import write_comparison
from unlearn.report.comparison import _markdown
from unlearn.report.record import Run
from unlearn.report.tables.latex import escape, table
from unlearn.report.tables.markdown import escape as markdown_escape
from unlearn.report.tables.spreadsheet import cell, text
from unlearn.report.tables.tabulate import tabulate

FORMULAS = [
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\tx", "\rx", "'=1", "'", "-",
    "\uff1d1", "=HYPERLINK(\"https://x\", \"y\")", "-3.2x", "--3",
]  # fmt: skip
HARMLESS = ["", "church", "a = b", "x-y", "-3.2", "+4", "-1e-5", "3", 3, -3.2, None, 0.0]


@pytest.mark.parametrize("given", FORMULAS)
def test_a_formula_is_text_and_read_back_as_it_was(given):
    written = cell(given)
    assert written == f"'{given}"
    assert text(written) == given


@pytest.mark.parametrize("given", HARMLESS)
def test_numbers_and_words_stay_as_they_are(given):
    assert cell(given) is given
    assert not isinstance(given, str) or text(given) == given


def test_a_comparison_is_written_so(tmp_path):
    for seed in (0, 1):
        synthetic_run(
            tmp_path / "runs" / str(seed),
            seed=seed,
            method="=cmd|'/c calc'!A1",
            concept="@x/../../y",
            items=False,
        )
    synthetic_run(tmp_path / "runs" / "2", concept="-y", items=False)
    out = tmp_path / "out"
    write_comparison((tmp_path / "runs").iterdir(), out, ["concept"])
    rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text(encoding="utf-8"), newline="")))
    assert {row["concept"] for row in rows} == {"'@x/../../y", "'-y"}
    assert {row["method"] for row in rows} >= {"'=cmd|'/c calc'!A1", "original"}
    assert {text(row["concept"]) for row in rows} == {"@x/../../y", "-y"}
    assert all(float(row["clip_score"]) > 0 for row in rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "runs"]
    assert all(path.is_file() for path in out.iterdir())


def test_markdown_and_latex_stay_on_their_line(tmp_path):
    synthetic_run(tmp_path / "a", concept="x\n<script>\\input{y}", items=False)
    said = json.dumps(["method.a=`</code>`|\n# [z]"])
    (tmp_path / "a" / ".hydra" / "overrides.yaml").write_text(said)
    (section,) = tabulate([Run.read(tmp_path / "a")])
    page = _markdown(section, headed=True)
    assert page.splitlines()[0].startswith("### x \\<script\\>")
    assert all(line.startswith("|") for line in page.splitlines()[2:])
    assert "``" in page
    assert markdown_escape("a_b*c <d> `e` [f](g) & #h\n i") == r"a\_b\*c \<d\> \`e\` \[f\](g) \& \#h i"
    lines = table(section).splitlines()
    assert lines[0].startswith("% x <script>")
    assert not any(line.startswith(("[", "*", "<script")) for line in lines)
    assert escape("[2cm] *x\n%y") == r"{[}2cm{]} {*}x \%y"
