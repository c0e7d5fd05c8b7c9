"""The original model of a run: what it is known by, before it is loaded, and loading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.errors import ArtifactError, ConfigError
from unlearn.models.families.sd import StableDiffusion
from unlearn.models.model import DiffusionModel
from unlearn.store.artifacts import Store
from unlearn.store.digests import digest_of
from unlearn.store.provenance import made_by


def load(
    card: StableDiffusion, device: str, concepts: ConceptSet, prompts: Mapping[str, PromptSet], store: Store
) -> Source:
    """The original model, not loaded yet; ``prompts`` are what it will draw, beside the concepts' phrases."""
    texts = dict.fromkeys(prompt for each in prompts.values() for prompt in each.prompts)
    return Source(card, device, store, [*concepts.erased, *texts])


@dataclass
class Source:
    """The original model, loaded when it is first asked for.

    Attributes:
        card: Its settings.
        device: A torch device.
        store: Keeps the time of loading apart from that of the work.
        prompts: All that will be drawn: looked at before any work is done, since none may be too long.
    """

    card: StableDiffusion
    device: str
    store: Store
    prompts: Sequence[str] = ()
    _model: DiffusionModel | None = field(default=None, repr=False)
    _identity: dict[str, Any] | None = field(default=None, repr=False)

    def __call__(self) -> DiffusionModel:
        """The model.

        Raises:
            ArtifactError: If its files are no longer those that :meth:`identity` told.
        """
        if self._model is None:
            with self.store.uncounted():
                self._model = self._loaded()
        return self._model

    def _loaded(self) -> DiffusionModel:
        model = self.card.load(self.device)
        if self._identity is not None and self._weights() != self._identity["weights"]:
            raise ArtifactError(
                f"model.source: the files in {model.folder} have changed since this run began. Run again."
            )
        model.tokenize(self.prompts)
        return model

    def release(self) -> None:
        """Frees its memory."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def identity(self) -> dict[str, Any]:
        """All that the original model's predictions depend on; fetches its files if they are not there.

        Raises:
            ConfigError: If one cannot be had.
        """
        if self._identity is None:
            self._identity = {
                "class": type(self.card).__name__,
                "device": torch.device(self.device).type,
                "dtype": self.card.dtype,
                "weights": self._weights(),
                **made_by(self.card),
            }
        return self._identity

    def _weights(self) -> str:
        try:
            return digest_of(self.card.files())
        except OSError as error:
            raise ConfigError(f"model.source: {error.filename} cannot be read ({error}).") from None
