"""What a method did to a model, in memory and on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from unlearn.errors import ArtifactError
from unlearn.models.guards import Guard

WEIGHTS = "weights.safetensors"
HISTORY = "history.json"


@dataclass(frozen=True)
class Erasure:
    """What a method did to a model.

    Attributes:
        weights: New values of the parameters that changed, by full name. Empty for sampling-time methods.
        guard: What to do differently while sampling. None for methods that only change weights.
        history: Values logged while erasing, one mapping a step.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    guard: Guard | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Writes weights (safetensors) and history (JSON) into an existing folder.

        Raises:
            NotImplementedError: If there is a guard; nothing makes one yet.
        """
        from safetensors.torch import save_file

        if self.guard is not None:
            raise NotImplementedError("An erasure with a guard cannot be saved yet.")
        save_file(
            {name: weight.detach().cpu().contiguous() for name, weight in self.weights.items()},
            folder / WEIGHTS,
        )
        (folder / HISTORY).write_text(json.dumps(self.history))

    @classmethod
    def load(cls, folder: Path) -> Erasure:
        """Reads what :meth:`save` wrote, onto the CPU.

        Raises:
            ArtifactError: If the folder does not hold a whole erasure.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            weights = load_file(folder / WEIGHTS)
            history = json.loads((folder / HISTORY).read_text())
        except (OSError, SafetensorError, ValueError) as error:
            raise ArtifactError(
                f"erasure: {folder} does not hold a whole erasure ({error}). Delete the folder and run again."
            ) from error
        return cls(weights=weights, history=history)
