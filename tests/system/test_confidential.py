"""Values of the environment stay out of everything that is kept or said."""

from __future__ import annotations

import json
import logging

import pytest
from small_run import RUN, command

from unlearn.api import configure
from unlearn.cli import explain
from unlearn.config.compose import composed
from unlearn.config.identity import run_name
from unlearn.errors import UnlearnError
from unlearn.store.artifacts import Store
from unlearn.system import confidential
from unlearn.system.confidential import Filter, heed, redacted, stated

SECRET = "hunter2-is-no-password"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setattr(confidential, "_known", {})
    monkeypatch.setenv("UNLEARN_TOKEN", SECRET)
    monkeypatch.setenv("UNLEARN_SHORT", "cpu")


def test_references_stand_for_their_values():
    heed(
        {
            "a": ["x/${oc.env:UNLEARN_TOKEN}/y"],
            "b": "${oc.env:UNLEARN_SHORT}",
            "c": "${oc.env:UNLEARN_NONE,7}",
        }
    )
    given = {"path": SECRET, "said": [f"no file {SECRET}/y on cpu"], "n": 3}
    assert redacted(given) == {
        "path": "${oc.env:UNLEARN_TOKEN}",
        "said": ["no file ${oc.env:UNLEARN_TOKEN}/y on cpu"],
        "n": 3,
    }
    assert redacted(given, ("path",))["path"] == SECRET


def test_a_configuration_is_stated_as_it_was_written():
    written = {"a": "${oc.env:UNLEARN_SHORT}", "b": ["x", "${oc.env:UNLEARN_TOKEN}"], "c": "${a}", "d": 1}
    resolved = {"a": "cpu", "b": ["x", SECRET], "c": "cpu", "d": 1}
    assert stated(written, resolved) == written | {"c": "cpu"}


def test_artifacts_keep_the_reference_and_see_the_value(tmp_path, monkeypatch):
    heed("${oc.env:UNLEARN_TOKEN}")
    inputs = {"file": SECRET}
    made = Store(tmp_path).once("attack", inputs, lambda _: None)
    assert SECRET not in (made / "inputs.json").read_text()
    assert Store(tmp_path).once("attack", inputs, lambda _: None) == made
    assert Store(tmp_path).once("attack", {"file": "another"}, lambda _: None) != made
    monkeypatch.setattr(confidential, "_known", {})  # the same value, written out
    assert Store(tmp_path).once("attack", inputs, lambda _: None) == made
    scratch = Store(tmp_path).scratch("attack", inputs)
    heed("${oc.env:UNLEARN_TOKEN}")
    assert Store(tmp_path).scratch("attack", inputs) == scratch


def test_errors_and_logs_say_the_reference(capsys, caplog):
    heed("${oc.env:UNLEARN_TOKEN}")
    explain(UnlearnError(f"file: there is no file {SECRET}"))
    explain(KeyError(SECRET))
    assert SECRET not in capsys.readouterr().err
    caplog.handler.addFilter(Filter())
    logging.getLogger("x").warning("%s was refused", SECRET)
    assert "${oc.env:UNLEARN_TOKEN} was refused" in caplog.text
    assert SECRET not in caplog.text


def test_a_run_is_not_called_after_one():
    config = composed(["concept=custom", "concept.name=${oc.env:UNLEARN_TOKEN}", "tracker=none"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unlearn.config.identity.signature", lambda _: "0" * 12)
        from types import SimpleNamespace

        choices = SimpleNamespace(concept="custom", method="uce", model="pocket")
        root = SimpleNamespace(
            concept=config.concept, seed=0, hydra=SimpleNamespace(runtime=SimpleNamespace(choices=choices))
        )
        assert run_name(_root_=root) == f"uce-custom-pocket-s0-{'0' * 12}"


def test_a_configuration_is_heeded_when_it_is_resolved():
    configure(
        "concept=church",
        "tracker=none",
        "outputs=${oc.env:UNLEARN_TOKEN}",
    )
    assert redacted(SECRET) == "${oc.env:UNLEARN_TOKEN}"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_no_file_of_a_run_holds_one(tiny_folder, tmp_path):
    """The file of replayed prompts is called so: it is in the attack's inputs, in warnings and in W&B."""
    (tmp_path / SECRET).mkdir()
    file = tmp_path / SECRET / "prompts.csv"
    file.write_text("prompt\n" + "a church\n" * 50)
    words = [
        f"model.source={tiny_folder}", "concept=red", "method=uce", "tracker=wandb", "tracker.mode=offline",
        "+attack@eval.attacks.replay=replay", "eval.attacks.replay.prompts=50",
        "eval.attacks.replay.file=${oc.env:UNLEARN_TOKEN}/prompts.csv",
    ]  # fmt: skip
    done = command(tmp_path, *RUN, *words, SMALL_WORLD_KILL="0", UNLEARN_TOKEN=SECRET)
    assert done.returncode == 0, done.stderr
    files = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in done.stdout + done.stderr
    assert any(
        "${oc.env:UNLEARN_TOKEN}/prompts.csv" in path.read_text() for path in files if path.suffix == ".html"
    )
    found = [json.loads(path.read_text()) for path in files if path.name == "results.json"]
    assert any("${oc.env:UNLEARN_TOKEN}" in warning for one in found for warning in one["warnings"])
