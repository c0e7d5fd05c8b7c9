"""Components from outside beside those of the package: run, attacked, measured, swept and reported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from unlearn.commands import KINDS
from unlearn.store.results import read_results

ROOT = Path(__file__).parents[2]
WORLD = ROOT / "tests" / "small_world"
NAMES = {"method": "mine", "attack": "again", "metric": "pixels", "concept": "lighthouse"}
PLUGINS = "plugins=[own/mine.py,own/again.py,own/pixels.py]"


def call(*words, folder, code=0, program=WORLD / "unlearn.py", **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SMALL_WORLD_CODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, program, *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def own(tmp_path):
    """A folder with one of each kind, as ``unlearn new`` writes them."""
    for kind in KINDS:
        call("new", kind, NAMES[kind], "--folder", "own", folder=tmp_path)
    return tmp_path


@pytest.mark.slow
def test_what_new_writes_passes_the_test_that_it_writes(own):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "own"],
        cwd=own, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_concept_is_begun_without_torch(tmp_path):
    program = (
        "import sys; from unlearn import cli\n"
        "try: cli.main(['new', 'concept', 'mine'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "False", done.stdout + done.stderr
    assert (tmp_path / "conf" / "concept" / "mine.yaml").is_file()


def test_new_is_tidy_and_overwrites_nothing(own):
    found = sorted(path.relative_to(own / "own").as_posix() for path in (own / "own").rglob("*.*"))
    assert found == [
        "again.py",
        "conf/attack/again.yaml",
        "conf/concept/lighthouse.yaml",
        "conf/method/mine.yaml",
        "conf/metric/pixels.yaml",
        "mine.py",
        "pixels.py",
        "test_again.py",
        "test_lighthouse.py",
        "test_mine.py",
        "test_pixels.py",
    ]
    for tool in (["check", "--select", "E,F,W,B,UP,ARG,D1"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *tool, "--no-cache", "--isolated", "--line-length", "110"]
        done = subprocess.run(
            [*ruff, *(own / "own" / f"{name}.py" for name in NAMES.values() if name != "lighthouse")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    before = (own / "own" / "mine.py").read_text()
    for words, said in {
        ("method", "mine", "--folder", "own"): "own/mine.py exists already",
        ("method", "esd"): "the name 'esd' of a method is taken",
        ("metric", "fid"): "the name 'fid' of a metric is taken",
        ("concept", "church"): "the name 'church' of a concept is taken",
        ("method", "json"): "a module cannot be called 'json'",
        ("method", "class"): "a module cannot be called 'class'",
        ("method", "9x"): "NAME must be words of small letters",
        ("method", "a_1"): "NAME must be words of small letters",
    }.items():
        assert said in call("new", *words, folder=own, code=2).stderr
    assert (own / "own" / "mine.py").read_text() == before


def test_all_four_kinds_stand_beside_esd_in_a_sweep(own, tiny_folder):
    (own / "own" / "conf" / "method" / "short.yaml").write_text("defaults: [esd, _self_]\nsteps: 1\n")
    run = [
        "run", "-m", "--config-dir", WORLD, PLUGINS, "method=short,mine", "concept=lighthouse", "model=tiny",
        f"model.source={tiny_folder}", "eval=tiny", "+detector@eval.detectors.pocket_clip=pocket_clip",
        "+attack@eval.attacks.again=again", "eval.attacks.again.prompts=2", "eval.attacks.again.repeats=2",
        "+metric@eval.metrics.pixels=pixels", "tracker=none",
    ]  # fmt: skip
    call(*run, folder=own)
    runs = sorted((own / "outputs" / "runs").iterdir())
    results = {path.name.split("-")[0]: read_results(path) for path in runs}
    assert set(results) == {"short", "mine"}
    for found in results.values():
        assert {"erased", "asr_again", "asr_random_tokens", "pixels"} <= set(found["scores"])
        assert 0 < found["scores"]["pixels"]["value"] < 1
        assert {attack["name"] for attack in found["attacks"]} == {"again", "random_tokens"}

    assert "mine" in Path(call("report", *runs, folder=own).stdout.strip()).read_text()
    (mine,) = [path for path in runs if path.name.startswith("mine")]
    call("generate", "--run", mine, "--prompt", "a cat", folder=own / "own")  # from another folder
    call("export", mine, "exported", folder=own)

    again = [*run[:1], *run[2:]]
    again[again.index("method=short,mine")] = "method=mine"
    assert "Nothing was computed" in call(*again, folder=own).stdout
    source = own / "own" / "mine.py"
    source.write_text(source.read_text() + "\n\nADDED = 1\n")
    before = json.loads((mine / "results.json").read_text())["artifacts"]["erasure"]
    assert "Nothing was computed" not in call(*again, folder=own).stdout
    assert json.loads((mine / "results.json").read_text())["artifacts"]["erasure"] != before


def test_list_show_and_check_know_them_and_say_where_they_come_from(own):
    listed = call("list", "methods", PLUGINS, folder=own).stdout.splitlines()
    (line,) = [line for line in listed if line.startswith("mine ")]
    assert line.endswith(f"({own / 'own' / 'mine.py'})")
    assert not any(line.endswith(")") for line in listed if line.startswith("uce "))
    shown = call("show", "method=mine", PLUGINS, folder=own).stdout
    assert "ridge: 0.1" in shown
    assert f"# ({own / 'own' / 'mine.py'})" in shown
    search = f"hydra.searchpath=['file://{own}/own/conf']"
    listed = call("list", "concepts", search, folder=own).stdout.splitlines()
    assert any(line.startswith("lighthouse ") and f"({own}/own/conf)" in line for line in listed)
    words = ["method=mine", "concept=lighthouse", PLUGINS, "tracker=none"]
    assert call("check", *words, folder=own).stdout == "ok\n"
    said = call("run", "method=mien", PLUGINS, "tracker=none", folder=own, code=2).stderr
    assert "Unknown method 'mien'. Did you mean 'mine'?" in said


@pytest.mark.parametrize("given", ["--config-dir", "hydra.searchpath"])
def test_a_run_is_found_again_with_the_folders_that_it_was_given(own, tiny_folder, given):
    folder = own / "own" / "conf"
    world = f"file://{WORLD}"
    where = (
        ["--config-dir", folder, f"hydra.searchpath=['{world}']"]
        if given == "--config-dir"
        else [f"hydra.searchpath=['{world}','file://{folder}']"]
    )
    run = [
        "run", *where, "method=uce", "concept=lighthouse", "model=tiny", f"model.source={tiny_folder}",
        "eval=tiny", "+detector@eval.detectors.pocket_clip=pocket_clip", "tracker=none",
    ]  # fmt: skip
    results = Path(call(*run, folder=own).stdout.splitlines()[-1])
    call("generate", "--run", results.parent, "--prompt", "a cat", folder=own)


@pytest.mark.slow
def test_the_example_is_installed_and_run(tmp_path):
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    example = tmp_path / "own_method"
    subprocess.run(["cp", "-r", ROOT / "examples" / "own_method", example], check=True)
    subprocess.run([*pip, "--target", site, example], check=True, capture_output=True)
    program = tmp_path / "program.py"
    program.write_text("from unlearn.cli import main\n\nmain()\n")

    def installed(*words):
        return call(*words, folder=tmp_path, program=program, PYTHONPATH=f"{site}:{ROOT}")

    listed = installed("list", "methods").stdout.splitlines()
    assert any(line.startswith("quieted ") and line.endswith("(own-method 0.1)") for line in listed)
    small = ["model.sampler.steps=4", "eval.prompts={plain: 4, neighbour: 2, unrelated: 2}", "tracker=none"]
    done = installed(
        "run",
        "method=quieted",
        "concept=church",
        "eval=quick",
        *small,
        "eval.attacks.random_tokens.prompts=1",
    )
    found = read_results(tmp_path / Path(done.stdout.splitlines()[-1]).parent)
    assert found["scores"]["erased"]["n"] == 4
    assert found["cost"]["parameters_changed"] == 0
    installed("generate", "--run", Path(done.stdout.splitlines()[-1]).parent, "--prompt", "a church")
