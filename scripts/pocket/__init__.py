"""Builds pocket: its data set, tokenizer, autoencoder, text tower, denoiser and detectors."""

from pathlib import Path

#: Where data, checkpoints and curves go; never committed.
BUILD = Path("outputs/pocket")
