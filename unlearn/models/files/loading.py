"""Reading the parts of a checkpoint's folder: safetensors only, no code from the checkpoint, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unlearn.errors import ConfigError
from unlearn.system.shortage import memory_short, reason

MISTAKES = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What libraries raise on files that are damaged, or describe something else than they should."""


def part(folder: Path, name: str, cls: str, dtype: torch.dtype) -> nn.Module:
    """One part with its weights, on the CPU.

    Arguments:
        folder: The checkpoint's folder.
        name: The part's folder in it.
        cls: Class of diffusers or transformers.
        dtype: Floating point type of the weights. Always given, because fp16 files are otherwise read as
            float16 by one library and as float32 by the other.

    Raises:
        ConfigError: If the weights are damaged, or are not those of the configuration.
    """
    import diffusers
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    library = transformers if cls.startswith("CLIP") else diffusers
    logs: Any = transformers.utils.logging  # Any: untyped
    bars = logs.is_progress_bar_enabled()
    logs.disable_progress_bar()
    try:
        module, info = getattr(library, cls).from_pretrained(
            folder,
            subfolder=name,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (*MISTAKES, SafetensorError, StrictDataclassError) as error:
        if memory_short(error):
            raise
        # What a damaged file or a configuration of another size raises differs by library and version.
        why = " ".join(str(error).split())[:300]
        raise ConfigError(f"model.source: {folder / name} cannot be loaded as {cls}: {why}") from error
    finally:
        if bars:
            logs.enable_progress_bar()
    # Both libraries only warn about a missing weight, and fill it with random numbers.
    if missing := sorted(info["missing_keys"]):
        raise ConfigError(
            f"model.source: {folder / name} lacks {len(missing)} weights of its {cls}, e.g. '{missing[0]}'. "
            "The files do not belong together, or one is damaged."
        )
    assert isinstance(module, nn.Module)
    return module


def tokenizer(folder: Path, name: str) -> Any:
    """The CLIP tokenizer in a folder of the checkpoint.

    Raises:
        ConfigError: If its files are damaged.
    """
    from transformers import CLIPTokenizer

    try:
        return CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)
    except MISTAKES as error:
        why = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"model.source: {folder / name} cannot be loaded as CLIPTokenizer: {why}"
        ) from error


def scheduler_config(folder: Path) -> dict[str, Any]:
    """The configuration of the checkpoint's noise schedule."""
    config: dict[str, Any] = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    return config


@contextmanager
def described(folder: Path) -> Iterator[None]:
    """Says of what goes wrong in the block that the checkpoint's configuration is to blame.

    Raises:
        ConfigError: If anything does.
    """
    try:
        yield
    except MISTAKES as error:
        if memory_short(error):
            raise
        raise ConfigError(
            f"model.source: the configuration in {folder} is damaged ({reason(error)})."
        ) from error
