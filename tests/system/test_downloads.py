"""Servers that take a connection and never answer: each download gives up in time, and says so in a line."""

import socket

import pytest

from unlearn.detectors.imagenet import read_weights
from unlearn.detectors.openclip import OpenClip
from unlearn.errors import ConfigError
from unlearn.models.files import source
from unlearn.system import network
from unlearn.system.network import limited, within

#: Seconds after which a test fails; what it waits for may take ``PATIENCE``, here a second, a few times.
LIMIT = 60


@pytest.fixture
def mute(monkeypatch, tmp_path):
    """The address of such a server, which is the hub's, too; nothing is in any cache."""
    from huggingface_hub import constants

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        for module in (network, source):
            monkeypatch.setattr(module, "PATIENCE", 1.0)
        monkeypatch.setattr(network.silent, "__defaults__", (1.0,))
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        yield url


@pytest.mark.usefixtures("mute")
def test_a_checkpoint_on_a_hub_that_is_mute():
    (problem,) = within(LIMIT, lambda: source.reachable("owner/name", None))
    assert "cannot be fetched" in problem
    assert "\n" not in problem


def test_a_clip_on_a_hub_that_is_mute(mute):
    from huggingface_hub import constants

    settings = {"others": [], "template": "{}", "threshold": 0.5, "statistics": None, "device": "cpu"}
    clip = OpenClip(architecture="ViT-B-32-quickgelu", weights="openai", **settings)
    with pytest.raises(ConfigError, match=f"cannot be loaded .{mute}: (no answer|timed out)") as caught:
        within(LIMIT, lambda: clip._loaded)
    assert "\n" not in str(caught.value)
    assert not constants.HF_HUB_OFFLINE
    assert socket.getdefaulttimeout() is None


def test_weights_at_an_address_that_is_mute(mute):
    with pytest.raises(ConfigError, match=r"cannot be loaded .(no answer|timed out)"):
        within(LIMIT, lambda: read_weights(None, f"{mute}/resnet50.pth"))


def test_a_download_that_falls_silent_is_given_up(mute):
    from urllib.request import urlopen

    with limited(), pytest.raises(TimeoutError):
        within(LIMIT, lambda: urlopen(mute))
