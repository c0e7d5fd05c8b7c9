"""Writes an erased model as a folder that plain diffusers opens, old versions and new, or as a LoRA."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unlearn.errors import ConfigError, IncompatibleError
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.maps import lora
from unlearn.system.writing import check_writable, saying, settle

#: What the libraries write of the machine they run on; it is nobody else's business.
LOCAL = ("_name_or_path",)

#: The file that diffusers' ``load_lora_weights`` looks for in a folder.
LORA = "pytorch_lora_weights.safetensors"


def export(model: DiffusionModel, erasure: Erasure, folder: Path, *, as_lora: bool = False) -> None:
    """Writes the model with the erasure applied, in the dtype in which it is loaded, or the erasure alone.

    The folder appears when it is whole, or not at all.

    Arguments:
        model: The original model; it is as before afterwards.
        erasure: What to apply.
        folder: A folder that does not exist yet, or is empty.
        as_lora: Whether to write a LoRA instead, for ``load_lora_weights`` of the original's pipeline.

    Raises:
        ConfigError: If there is something in ``folder``.
        WriteError: If it cannot be written.
        IncompatibleError: If the erasure acts while sampling, so that no weights could hold it, or is to be a
            LoRA and is not one.
    """
    if erasure.guard is not None:
        raise IncompatibleError(
            "export: this erasure acts while images are drawn; a folder of weights cannot hold it. What can "
            "be exported are runs of methods that change weights, such as method=uce, rece or esd; "
            "`unlearn generate --run` draws with this one."
        )
    check_free(folder)
    folder = folder.resolve()
    factors = lora(model, erasure) if as_lora else None
    with saying(folder), _beside(folder) as whole:
        if factors is None:
            with model.erased(erasure):
                _write(model, whole)
        else:
            _write_lora(factors, whole)


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Gives the name of a folder on the same disk, which becomes ``folder`` when it is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name[:100]}-", dir=folder.parent) as scratch:
        whole = Path(scratch) / "model"
        yield whole
        settle(whole)
        whole.replace(folder)


def check_free(folder: Path) -> None:
    """Finds out whether something could be written to ``folder``.

    Raises:
        ConfigError: If there is something already, or nothing can be written there.
    """
    check_writable(folder, "export")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"export: {folder} exists already. Give another folder, or remove it first.")


def _write_lora(factors: dict[str, Tensor], folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir()
    save_file(
        {name: factor.contiguous() for name, factor in factors.items()},
        folder / LORA,
        metadata={"format": "pt"},
    )


def _write(model: DiffusionModel, folder: Path) -> None:
    index: dict[str, Any] = {"_class_name": model.pipeline}
    for name, module in model.parts.items():
        if name.startswith("text_encoder"):
            _write_text_encoder(module, folder / name)
            index[name] = ["transformers", type(module).__name__]
        else:
            part: Any = module
            part.save_pretrained(folder / name)
            _rewrite(folder / name / "config.json")
            index[name] = ["diffusers", type(module).__name__]
    for name in [part.replace("text_encoder", "tokenizer") for part in model.parts if "text" in part]:
        _write_tokenizer(model, folder / name)
        index[name] = ["transformers", "CLIPTokenizer"]
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(model.scheduler_config, indent=2))
    index["scheduler"] = ["diffusers", model.scheduler_config["_class_name"]]
    index |= {"feature_extractor": [None, None], "image_encoder": [None, None]}
    index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True))


def _write_text_encoder(module: nn.Module, folder: Path) -> None:
    """Writes weights under ``text_model.…``, where readers before transformers 5 look for them.

    Transformers 5 has no such level in its modules, and writes one only if it read one.
    """
    from safetensors.torch import save_file

    encoder: Any = module
    encoder.config.architectures = [type(module).__name__]
    encoder.config.save_pretrained(folder)
    _rewrite(folder / "config.json")
    weights = {
        name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": weight
        for name, weight in module.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(model: DiffusionModel, folder: Path) -> None:
    """Writes the files of both generations; transformers 5 alone would only write ``tokenizer.json``."""
    tokenizer = model.tokenizer
    backend = tokenizer.backend_tokenizer
    # The last call's padding would be written with it.
    backend.no_padding()
    backend.no_truncation()
    tokenizer.save_pretrained(folder)
    backend.model.save(str(folder))
    # With the added tokens, which `backend.model` does not know.
    vocabulary = dict(sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1]))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    special = tokenizer.special_tokens_map
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2))
    # The fields of Stable Diffusion 1.4; what `save_pretrained` writes depends on how the tokenizer was made.
    config = {
        **special,
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": model.max_tokens,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))


def _rewrite(file: Path) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(
        json.dumps({k: v for k, v in content.items() if k not in LOCAL}, indent=2), encoding="utf-8"
    )
