"""What code a result comes from: what an edit makes stale, and what it leaves alone."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest

import unlearn
from unlearn.catalogue import ATTACKS, DETECTORS, METHODS, METRICS, MODELS, RESURGENCES
from unlearn.methods.training.loop import Optimizer
from unlearn.pipeline import attacking, curves, drawing, erasing, resurging, scoring
from unlearn.store import provenance, syntax

ROOT = provenance.PACKAGE
FUTURE = "from __future__ import annotations\n"
MORE = f"{FUTURE}\nSCALE = 2\n"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of the package's code."""
    folder = tmp_path_factory.mktemp("copy") / "unlearn"
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("pocket", "__pycache__", "prompts"))


@pytest.fixture
def copy(sources, monkeypatch):
    """Edits a file of the copy until the test ends: ``copy("methods/training/esd.py", old, new)``."""
    monkeypatch.setattr(provenance, "PACKAGE", sources)
    monkeypatch.setattr(provenance, "_seen", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources.parent / "cache"))
    before = {}

    def edit(name, old, new):
        path = sources / name
        before.setdefault(path, path.read_text())
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))
        provenance._seen.clear()

    yield edit
    for path, text in before.items():
        path.write_text(text)


@pytest.fixture(scope="module")
def configured():
    def configure(method):
        return unlearn.configure(f"method={method}", "concept=church", "eval=quick", "device=cpu")

    return {method: configure(method) for method in ("esd", "uce", "spm")}


def by(config, *roots):
    """What of the inputs is code, of a stage that runs the model."""
    return [provenance.made_by(config.model), provenance.made_by(*roots)]


def erasure(config):
    return by(config, erasing._erased, config.method, config.concepts)


def images(config):
    return by(config, drawing.image_set, config.model.sampler)


def everything(configured):
    esd, uce = configured["esd"], configured["uce"]
    return {
        "esd": erasure(esd),
        "uce": erasure(uce),
        "images": images(esd),
        "attack": by(esd, attacking.search, esd.eval.attacks),
        "judge": provenance.made_by(esd.eval.detectors["pocket_judge"]),
        "scores": provenance.made_by(scoring.score, esd.concepts, esd.eval.metrics),
        "resurgence": by(esd, resurging._visited),
        "curves": provenance.made_by(curves._judged, esd.concepts),
    }


def changed(copy, configured, name, old, new):
    before = everything(configured)
    copy(name, old, new)
    after = everything(configured)
    return {key for key in before if before[key] != after[key]}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("methods/training/esd.py", '"""', '"""Other words. '),
        ("methods/training/esd.py", "from __future__", "# a comment\n\nfrom __future__"),
        ("models/model.py", "if TYPE_CHECKING:\n", "if TYPE_CHECKING:\n    from unlearn.config import fit\n"),
        ("models/sampling.py", '"""', '"""Other words. '),
        ("models/sampling.py", "#: Prompts that are encoded at a time.\n", ""),
        ("pipeline/drawing.py", '    """Draws the images of one request, or finds them.', '    """Draws.'),
        ("concepts/concept.py", '"""By kind of concept:', '"""Of each kind:'),
        ("report/single.py", "return warnings", "return []"),
        ("store/artifacts.py", "[:12]", "[:13]"),
        ("catalogue.py", '"none": Nothing', '"nothing": Nothing'),
    ],
)
def test_what_changes_no_result_makes_nothing_stale(copy, configured, name, old, new):
    assert changed(copy, configured, name, old, new) == set()


@pytest.mark.parametrize(
    ("name", "old", "new", "stale"),
    [
        ("methods/training/esd.py", FUTURE, MORE, {"esd"}),
        ("methods/closed_form/uce.py", FUTURE, MORE, {"uce"}),
        ("methods/guards/safree/safree.py", FUTURE, MORE, set()),
        ("metrics/detection.py", FUTURE, MORE, {"scores", "curves"}),
        ("attacks/searches.py", FUTURE, MORE, {"attack"}),
        ("methods/training/loop.py", "import torch", "import torch\n\nSCALE = 2", {"esd"}),
        ("models/families/sd.py", "* 2 - 1", "* 3 - 1", {"esd", "uce", "images", "attack", "resurgence"}),
        ("detectors/pocket.py", "SIZE = 64", "SIZE = 65", {"judge"}),
        ("pipeline/drawing.py", "done -= done % sampler.batch_size", "done = 0", {"images", "resurgence"}),
        ("pipeline/doubts.py", ".double().mean()", ".double().sum()", {"scores"}),
        ("metrics/evidence.py", "BLANK = 2 / 255", "BLANK = 3 / 255", {"scores", "curves"}),
        ("pipeline/erasing.py", "seed=task.seed", "seed=0", {"esd", "uce"}),
        ("models/sampling.py", "PIXELS = 2**20", "PIXELS = 2**21",
         {"esd", "uce", "images", "attack", "scores", "resurgence"}),
        ("data/sentences.csv", "a photo of", "a foto of",
         {"esd", "uce", "images", "attack", "scores", "resurgence", "curves"}),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_what_runs_through_it(copy, configured, name, old, new, stale):
    assert changed(copy, configured, name, old, new) == stale


@pytest.mark.parametrize("table", [METHODS, ATTACKS, METRICS, DETECTORS, RESURGENCES, MODELS])
def test_no_component_leads_to_a_table_or_to_what_decides_nothing(table):
    for cls in table.values():
        names = {module for module, _ in provenance.reached([cls])}
        assert cls.__module__ in names
        assert not any(name.startswith(provenance.APART) for name in names), cls
        assert "unlearn" not in names, cls


def test_methods_that_share_nothing_stay_apart():
    for name, others in {
        "esd": ("uce", "mace", "sld"),
        "uce": ("esd", "salun"),
        "salun": ("uce", "spm"),
    }.items():
        names = {module for module, _ in provenance.reached([METHODS[name]])}
        assert METHODS[name].__module__ in names
        assert not names & {METHODS[other].__module__ for other in others}


def test_parts_of_a_component_are_followed_wherever_they_come_from():
    lone = {module for module, _ in provenance.reached([{"any": [Optimizer(lr=1.0)]}])}
    assert "unlearn.methods.training.loop" in lone


def test_libraries_are_those_that_are_imported(configured):
    model = provenance.made_by(configured["esd"].model)["libraries"]
    assert set(model) == {"diffusers", "torch", "transformers"}
    judge = provenance.made_by(configured["esd"].eval.detectors["nudenet"])["libraries"]
    assert set(judge) == {"onnxruntime", "torch", "torchvision"}


@pytest.mark.usefixtures("copy")
def test_what_was_remembered_is_what_is_found(configured, monkeypatch):
    first = everything(configured)
    provenance._seen.clear()
    monkeypatch.setattr(syntax, "whole", None)
    monkeypatch.setattr(syntax, "definitions", None)
    assert everything(configured) == first


def test_every_name_is_there():
    modules = {*provenance.APART, *provenance.STAGES, *provenance.DATA}
    assert all(provenance._file(module) for module in modules)
    assert all((ROOT / name).is_file() for names in provenance.DATA.values() for name in names)


def test_every_module_that_reads_a_packaged_file_is_known():
    """What it reads is under DATA, or among the inputs: prompts by their text, networks by their files."""
    known = {
        *provenance.DATA,
        "unlearn.concepts.prompt_files",
        "unlearn.detectors.pocket",
        "unlearn.detectors.nudenet",
    }
    readers = {
        ".".join(["unlearn", *path.relative_to(ROOT).with_suffix("").parts])
        for part in ("attacks", "detectors", "methods", "metrics", "models", "resurgence", "")
        for path in (ROOT / part).glob("*.py")
        if "importlib.resources" in path.read_text() or '"data"' in path.read_text()
    }
    assert readers <= known | {"unlearn.models.files.source"}  # which finds the model, known by its files


def test_definitions_see_their_own_file_and_skip_annotations():
    found = syntax.definitions(
        b"from unlearn import other\n"
        b"from unlearn.config.schemas import RunConfig\n"
        b"SIZE = 3\n"
        b"def lone(x: RunConfig) -> RunConfig:\n    y: RunConfig = x\n    return y\n"
        b"def both():\n    return lone(SIZE) + other.thing()\n",
        "unlearn.mine",
    )
    assert found["lone"].references == ()
    assert set(found["both"].references) == {
        ("unlearn.mine", "SIZE"),
        ("unlearn.mine", "lone"),
        ("unlearn", "other"),
        ("unlearn.other", "thing"),
    }


def test_a_plug_in_is_known_by_its_own_file(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text("from dataclasses import dataclass\n\n@dataclass\nclass Mine:\n    x: int = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = import_module("mine")
    first = provenance.made_by(mine.Mine())
    path.write_text(path.read_text() + "\nSCALE = 2\n")
    monkeypatch.setattr(provenance, "_seen", {})
    assert provenance.made_by(mine.Mine()) != first
    assert Path(mine.__file__) == path
