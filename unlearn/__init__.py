"""Concept erasure in text-to-image diffusion models: erase, attack, measure."""

__version__ = "0.1.0.dev0"
