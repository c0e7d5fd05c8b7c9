"""Where the files of a checkpoint are, and whether they are whole.

Nothing here reads a weight, so that a mistake is reported in a moment and not after minutes of loading.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from unlearn.errors import ConfigError
from unlearn.network import PATIENCE, within

#: Weight files by library, without and with the index of a checkpoint that is split into shards.
WEIGHTS = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(source: str, revision: str | None) -> Path | None:
    """The folder of a checkpoint that is on this machine.

    Arguments:
        source: A folder, ``package:<name>`` for one that ships with this package, or a hub id.
        revision: Branch, tag or commit on the hub.

    Returns:
        The folder, or None for a hub id that has not been downloaded yet.

    Raises:
        ConfigError: If ``source`` is neither a folder that exists nor a hub id.
    """
    if source.startswith("package:"):
        name = source.removeprefix("package:")
        folder = Path(__file__).parent.parent / "data" / name
        if not re.fullmatch(r"\w+", name) or not folder.is_dir():
            raise ConfigError(f"source: no model '{name}' ships with this package. Known: package:pocket.")
        return folder
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise ConfigError(f"source: needs a folder in diffusers' format, got the file '{source}'.")
    if not HUB_ID.fullmatch(source):
        raise ConfigError(
            f"source: there is no folder '{source}'. Give a folder or a hub id such as 'owner/name'."
        )
    return _cached(source, revision)


def _cached(source: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def reachable(source: str, revision: str | None) -> list[str]:
    """Why a hub id cannot be downloaded: at most one problem. Asks the hub unless it is switched off."""
    from huggingface_hub import HfApi
    from huggingface_hub.constants import is_offline_mode
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    advice = "Give a folder (model.source=/path/to/it), or use model=pocket, which needs no hub."
    if is_offline_mode():
        return [f"source: '{source}' is not in the hub's cache, and the hub is switched off. {advice}"]
    try:
        within(PATIENCE, lambda: HfApi().model_info(source, revision=revision, timeout=PATIENCE))
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return [f"source: '{source}' is not in the hub's cache, and cannot be fetched ({reason}). {advice}"]
    return []


def download(source: str, revision: str | None) -> Path:
    """Fetches the parts of a checkpoint that are used here: safetensors only, no variants, no safety checker.

    Raises:
        ConfigError: If the hub does not give it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    parts = ("scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae")
    kinds = ("*.json", "*.txt", "*.safetensors")
    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=["model_index.json", *(f"{part}/{kind}" for part in parts for kind in kinds)],
                ignore_patterns=["*.fp16.*", "*.bf16.*", "*.non_ema.*"],
            )
        )
    except (HTTPError, OSError) as error:
        raise ConfigError(f"model.source: '{source}' could not be downloaded: {error}") from error


def problems(folder: Path, pipelines: tuple[str, ...], parts: Mapping[str, str]) -> list[str]:
    """What is wrong with a checkpoint's folder, as far as can be seen without loading it.

    Arguments:
        folder: The folder.
        pipelines: Pipeline classes that fit.
        parts: Library of each part that has weights, ``"diffusers"`` or ``"transformers"``.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        hint = (
            " A single-file checkpoint must be converted first." if list(folder.glob("*.safetensors")) else ""
        )
        return [f"source: {folder} has no model_index.json, so it is no folder in diffusers' format.{hint}"]
    found = [*_bad_json(index)]
    if not found and (kind := json.loads(index.read_text()).get("_class_name")) not in pipelines:
        return [f"source: {folder} is a {kind}, this model family needs {' or '.join(pipelines)}."]
    for part, library in parts.items():
        found += _bad_json(folder / part / "config.json")
        found += _bad_weights(folder / part / WEIGHTS[library])
    found += _bad_json(folder / "scheduler" / "scheduler_config.json")
    for tokenizer in [
        part.replace("text_encoder", "tokenizer") for part in parts if part.startswith("text_encoder")
    ]:
        files = {file.name for file in (folder / tokenizer).glob("*")}
        if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
            found.append(
                f"source: {folder / tokenizer} has neither tokenizer.json nor vocab.json and merges.txt."
            )
    return found


def _bad_json(file: Path) -> list[str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [f"source: {file} is missing."]
    except (OSError, ValueError) as error:
        return [f"source: {file} cannot be read as JSON ({error})."]
    return [] if isinstance(content, dict) else [f"source: {file} holds no JSON object."]


def _bad_weights(file: Path) -> list[str]:
    """Whether a safetensors file, or each shard of one, is as long as its own header says."""
    shards = file.with_name(file.name + ".index.json")
    if shards.is_file() and not file.is_file():
        if bad := _bad_json(shards):
            return bad
        names = sorted(set(json.loads(shards.read_text())["weight_map"].values()))
        return [problem for name in names for problem in _bad_weights(file.with_name(name))]
    if not file.is_file():
        others = sorted(other.name for other in file.parent.glob("*.bin"))
        hint = (
            f" {others[0]} is a pickle, which can run code and is never read: convert it." if others else ""
        )
        return [f"source: {file} is missing.{hint}"]
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length <= size else {}
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return [f"source: {file} is damaged or only half written. Fetch it again."]
    if size != 8 + length + end:
        return [
            f"source: {file} is {size} bytes long where its header says {8 + length + end}. Fetch it again."
        ]
    return []
