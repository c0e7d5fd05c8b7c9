"""Packages that a test takes for installed or not; all others are found as they are."""

from importlib import util


def pretending(monkeypatch, *names, spec=True):
    """Until the test ends, these packages are said to be installed."""
    find = util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: spec if name in names else find(name, *rest)
    )


def lacking(monkeypatch, *names):
    """Until the test ends, these packages are said to be missing."""
    pretending(monkeypatch, *names, spec=None)
