"""Where the files of a checkpoint are, and whether they are whole.

Nothing here reads a weight, so that a mistake is reported in a moment and not after minutes of loading.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from unlearn.errors import ConfigError
from unlearn.models.files import descriptions, weight_files
from unlearn.system.network import PATIENCE, within

#: Weight files by library, without and with the index of a checkpoint that is split into shards.
WEIGHTS = {
    "diffusers": "diffusion_pytorch_model.safetensors",
    "transformers": "model.safetensors",
}
#: What is read of a part of a checkpoint, and what of it never is.
KINDS = ("*.json", "*.txt", "*.safetensors")
VARIANTS = ("*.fp16.*", "*.bf16.*", "*.non_ema.*")
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
        folder = Path(__file__).parents[2] / "data" / name
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
    try:
        return Path(
            snapshot_download(
                source,
                revision=revision,
                allow_patterns=["model_index.json", *(f"{part}/{kind}" for part in parts for kind in KINDS)],
                ignore_patterns=list(VARIANTS),
            )
        )
    except (HTTPError, OSError) as error:
        raise ConfigError(f"model.source: '{source}' could not be downloaded: {error}") from error


def files(folder: Path, parts: Collection[str]) -> dict[str, Path]:
    """The files of a checkpoint that a loaded model may come from, by their path in its folder.

    Of each part that is everything of a kind that loaders read, and the shards that an index names. What else
    lies in the folder, as a README, weights of another format or what a file browser leaves, is none of it.

    Arguments:
        parts: The parts that have weights; their tokenizers and the noise schedule belong to them.
    """
    folders = [*parts, *_tokenizers(parts), "scheduler"]
    found = [folder / "model_index.json"]
    for name in folders:
        kinds = [path for kind in KINDS for path in (folder / name).glob(kind)]
        found += [path for path in kinds if not path.name.startswith(".") and not _is_variant(path)]
        for index in (path for path in kinds if path.name.endswith(".safetensors.index.json")):
            found += [folder / name / shard for shard in weight_files.shards(index)]
    return {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}


def _tokenizers(parts: Collection[str]) -> list[str]:
    return [part.replace("text_encoder", "tokenizer") for part in parts if part.startswith("text_encoder")]


def _is_variant(path: Path) -> bool:
    return any(path.match(variant) for variant in VARIANTS)


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
    found = descriptions.problems(index, descriptions.Index)
    if not found and (kind := descriptions.read(index)[0]["_class_name"]) not in pipelines:
        return [f"source: {folder} is a {kind}, this model family needs {' or '.join(pipelines)}."]
    for part, library in parts.items():
        found += descriptions.problems(folder / part / "config.json", descriptions.KINDS.get(part))
        found += weight_files.problems(folder / part / WEIGHTS[library])
    found += descriptions.problems(folder / "scheduler" / "scheduler_config.json", descriptions.Schedule)
    for tokenizer in _tokenizers(parts):
        files = {file.name for file in (folder / tokenizer).glob("*")}
        if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
            found.append(
                f"source: {folder / tokenizer} has neither tokenizer.json nor vocab.json and merges.txt."
            )
    return found
