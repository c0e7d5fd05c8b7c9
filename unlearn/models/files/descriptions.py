"""The JSON files of a checkpoint: whether what this package reads of them is what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from unlearn.store.validation import parsed
from unlearn.store.validation import problems as mistaken


class Index(TypedDict):
    """``model_index.json``."""

    _class_name: str


class UNet(TypedDict):
    """``unet/config.json``."""

    in_channels: NotRequired[int]


class Autoencoder(TypedDict):
    """``vae/config.json``."""

    block_out_channels: NotRequired[list[int]]
    scaling_factor: NotRequired[float]


class TextEncoder(TypedDict):
    """``text_encoder/config.json``."""

    max_position_embeddings: NotRequired[int]
    vocab_size: NotRequired[int]


class Schedule(TypedDict):
    """``scheduler/scheduler_config.json``."""

    beta_end: NotRequired[float]
    beta_schedule: NotRequired[str]
    beta_start: NotRequired[float]
    num_train_timesteps: NotRequired[int]
    prediction_type: NotRequired[str]


class Shards(TypedDict):
    """The index of weights that are split."""

    weight_map: dict[str, str]


KINDS: dict[str, type] = {"unet": UNet, "vae": Autoencoder, "text_encoder": TextEncoder}
"""By part; of others only that they are JSON objects is looked at."""


def read(file: Path) -> tuple[Any, list[str]]:
    """What stands in a JSON file, and what keeps it from being read, as ``source: <what is wrong>``."""
    try:
        return parsed(file.read_text(encoding="utf-8")), []
    except FileNotFoundError:
        return None, [f"source: {file} is missing."]
    except (OSError, ValueError) as error:
        return None, [f"source: {file} cannot be read as JSON ({error})."]


def problems(file: Path, kind: type | None = None) -> list[str]:
    """What is wrong with a JSON file, each as ``source: <what is wrong>``.

    Arguments:
        kind: A TypedDict of the keys that are read here; None only wants an object.
    """
    content, bad = read(file)
    if bad:
        return bad
    if not isinstance(content, dict):
        return [f"source: {file} holds no JSON object."]
    return [] if kind is None else [f"source: {file}: {problem}" for problem in mistaken(content, kind)]
