"""The fixtures of :mod:`colour_world`."""

from colour_world import build

__all__ = ["build"]
