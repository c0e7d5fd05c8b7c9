"""The original model of a run: what it is known by, before it is loaded, and loading it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from unlearn.config.schemas import RunConfig
from unlearn.errors import ArtifactError, ConfigError
from unlearn.models.model import DiffusionModel
from unlearn.store.artifacts import Store
from unlearn.store.digests import digest_of
from unlearn.store.provenance import made_by


@dataclass
class Source:
    """The original model, loaded when it is first asked for.

    Attributes:
        config: The run.
        store: Keeps the time of loading apart from that of the work.
        prompts: All that will be drawn: looked at before any work is done, since none may be too long.
    """

    config: RunConfig
    store: Store
    prompts: Sequence[str]
    _model: DiffusionModel | None = field(default=None, repr=False)
    _identity: dict[str, Any] | None = field(default=None, repr=False)

    def __call__(self) -> DiffusionModel:
        """The model.

        Raises:
            ArtifactError: If its files are no longer those that :meth:`identity` told.
        """
        if self._model is None:
            with self.store.uncounted():
                model = self.config.model.load(self.config.device)
                if self._identity is not None and self._weights() != self._identity["weights"]:
                    raise ArtifactError(
                        f"model.source: the files in {model.folder} have changed since this run began. "
                        "Run again."
                    )
                model.tokenize(self.prompts)
                self._model = model
        return self._model

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
            card = self.config.model
            self._identity = {
                "class": type(card).__name__,
                "device": torch.device(self.config.device).type,
                "dtype": card.dtype,
                "weights": self._weights(),
                **made_by(card),
            }
        return self._identity

    def _weights(self) -> str:
        try:
            return digest_of(self.config.model.files())
        except OSError as error:
            raise ConfigError(f"model.source: {error.filename} cannot be read ({error}).") from None
