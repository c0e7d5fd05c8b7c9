import json
import time

import pytest

from unlearn.tracking.none import Silent
from unlearn.tracking.several import tracked
from unlearn.tracking.tracker import Tracker
from unlearn.tracking.wandb import Wandb


class Recorder(Tracker):
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def open(self, folder, config, name, group):  # noqa: ARG002
        self.told.append(("open", name, group))

    def log(self, stage, values, step):
        self.told.append(("log", stage, dict(values), step))

    def table(self, name, rows):
        self.told.append(("table", name, len(rows)))

    def summary(self, values):
        self.told.append(("summary", dict(values)))

    def files(self, paths):
        self.told.append(("files", [path.name for path in paths]))

    def close(self, failed, stopped=False):
        self.told.append(("close", failed, stopped))


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_that_fails_leaves_a_finished_ones_numbers(finished, tmp_path):
    path = tmp_path / "metrics.jsonl"
    for loss, failed in ((1.0, False), (2.0, True), (3.0, False)):
        try:
            with tracked(Silent(), tmp_path, {}, "run", None) as tracking:
                tracking.log("erase", {"loss": loss}, 0)
                assert json.loads(path.read_text())["loss"] == loss
                assert not failed
        except AssertionError:
            assert failed
        if finished:
            (tmp_path / "results.json").write_text("{}")
        kept = 1.0 if failed and finished else loss
        assert json.loads(path.read_text())["loss"] == kept
    assert {each.name for each in tmp_path.iterdir()} <= {"metrics.jsonl", "results.json"}


def test_every_run_keeps_its_numbers_in_a_file(tmp_path):
    with tracked(Silent(), tmp_path, {}, "run", None) as tracking:
        tracking.log("erase", {"loss": 0.5}, 3)
    (row,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert row.pop("time") > 0
    assert row == {"stage": "erase", "step": 3, "loss": 0.5}


def test_the_tracker_is_told_everything(tmp_path):
    recorder = Recorder()
    with tracked(recorder, tmp_path, {}, "run", "sweep") as tracking:
        tracking.log("erase", {"loss": 0.5}, 0)
        tracking.table("images", [{"prompt": "a cat"}])
        tracking.table("nothing", [])
        tracking.summary({"erased": 1.0})
        tracking.files([tmp_path / "results.json"])
    assert recorder.told == [
        ("open", "run", "sweep"),
        ("log", "erase", {"loss": 0.5}, 0),
        ("table", "images", 1),
        ("summary", {"erased": 1.0}),
        ("files", ["results.json"]),
        ("close", False, False),
    ]


@pytest.mark.parametrize(("error", "stopped"), [(ValueError, False), (KeyboardInterrupt, True)])
def test_a_failed_run_is_closed_as_such(tmp_path, error, stopped):
    recorder = Recorder()
    with pytest.raises(error), tracked(recorder, tmp_path, {}, "run", None):
        raise error("on purpose")
    assert recorder.told[-1] == ("close", True, stopped)


def test_modes_are_checked():
    with pytest.raises(ValueError, match=r"mode: Unknown mode 'offlin'. Did you mean 'offline'\?"):
        Wandb(project="p", entity=None, mode="offlin")


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """Neither logged in nor connected: an attempt to reach anything fails the test."""
    import socket

    def refuse(_self, address):
        if not isinstance(address, str) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"reached out to {address}")
        return connect(_self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize("failed", [False, True])
def test_wandb_keeps_a_run_offline(alone, failed):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(alone / "image.png")
    (alone / "results.json").write_text("{}")
    tracker = Wandb(project="test", entity=None, mode="auto")
    tracker.open(alone, {"seed": 0}, "none-church-pocket-s0-0123456789ab", "sweep")
    tracker.log("erase", {"loss": 0.5}, 0)
    tracker.table("images", [{"prompt": "a church", "original": alone / "image.png", "shown": 1.0}])
    tracker.summary({"erased": 12.5})
    tracker.files([alone / "results.json"])
    tracker.close(failed)
    expected = [b"erase/loss", b"none-church-pocket-s0-0123456789ab", b"sweep", b"erased", b"image"]
    # The writer is a process of its own, which may be a moment behind.
    for _ in range(200):
        (log,) = alone.glob("wandb/offline-run-*/run-*.wandb")
        missing = [text for text in expected if text not in log.read_bytes()]
        if not missing:
            break
        time.sleep(0.1)
    assert not missing


@pytest.mark.parametrize("said", ["environment", "netrc"])
def test_being_logged_in_is_seen_without_the_network(alone, monkeypatch, said):
    from unlearn.tracking.wandb import _logged_in

    assert not _logged_in()
    if said == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    else:
        (alone / "netrc").write_text("machine api.wandb.ai\n  login user\n  password " + "k" * 40 + "\n")
    assert _logged_in()
