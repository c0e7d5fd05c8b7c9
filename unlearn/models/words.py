"""Words whose embeddings were learned: they stand in no checkpoint and are no text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearn.errors import ArtifactError
from unlearn.models.model import DiffusionModel

WORDS = "words.safetensors"


@dataclass(frozen=True)
class Words:
    """Embeddings to read tokens as.

    Attributes:
        ids: The tokens, each once.
        embeddings: With shape :math:`(K, E)`.
    """

    ids: tuple[int, ...]
    embeddings: Tensor

    def fingerprint(self) -> str:
        """Changes with any token or number."""
        found = hashlib.sha256(repr(self.ids).encode())
        found.update(self.embeddings.detach().cpu().float().numpy().tobytes())
        return found.hexdigest()[:12]

    def save(self, folder: Path) -> None:
        """Writes ``words.safetensors`` into ``folder``."""
        from safetensors.torch import save_file

        tensors = {
            "embeddings": self.embeddings.detach().cpu().float().contiguous(),
            "ids": torch.tensor(self.ids),
        }
        save_file(tensors, folder / WORDS)

    @staticmethod
    def load(folder: Path) -> Words | None:
        """Reads what :meth:`save` wrote; None where nothing was.

        Raises:
            ArtifactError: If it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = folder / WORDS
        if not path.exists():
            return None
        try:
            tensors = load_file(path)
            return Words(tuple(tensors["ids"].tolist()), tensors["embeddings"])
        except (OSError, SafetensorError, KeyError) as error:
            raise ArtifactError(
                f"{path}: cannot be read ({error}). Remove its folder to attack again."
            ) from None


@contextmanager
def taught(model: DiffusionModel, words: Words | None) -> Iterator[None]:
    """The model with these tokens read as the embeddings say, while the block lasts; no weight changes.

    Gradients flow to the embeddings.
    """
    if words is None:
        yield
        return

    def read(_module: Any, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (tokens,) = arguments
        for number, embedding in zip(words.ids, words.embeddings, strict=True):
            output = torch.where((tokens == number)[..., None], embedding.to(output), output)
        return output

    encoder: Any = model.parts["text_encoder"]
    handle = encoder.get_input_embeddings().register_forward_hook(read)
    try:
        yield
    finally:
        handle.remove()
