"""What a method did to a model, in memory and on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from unlearn.errors import ArtifactError, unknown
from unlearn.models.guards import GUARDS, Guard

WEIGHTS = "weights.safetensors"
HISTORY = "history.json"
MAP = "map.safetensors"
GUARD = "guard.json"
STATE = "guard.safetensors"


@dataclass(frozen=True)
class Erasure:
    r"""What a method did to a model.

    Attributes:
        weights: New values of the parameters that changed, by full name. Empty for sampling-time methods.
        guard: What to do differently while sampling. None for methods that only change weights.
        history: Values logged while erasing, one mapping a step.
        map: :math:`M`, with shape :math:`(d, d)`, float64, if all that changed is :math:`W \to W M`; see
            :mod:`unlearn.models.weights.maps`. None for other changes.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    guard: Guard | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    map: Tensor | None = None

    def fingerprint(self) -> str:
        """Changes with anything that it does to a model."""
        tensors = {f"weights.{name}": weight for name, weight in self.weights.items()}
        if self.map is not None:
            tensors["map"] = self.map
        if self.guard is not None:
            tensors |= {f"guard.{name}": value for name, value in self.guard.state().items()}
        guard = json.dumps(self.guard and _described(self.guard), sort_keys=True)
        return hashlib.sha256(f"{contents(tensors)} {guard}".encode()).hexdigest()[:32]

    def save(self, folder: Path) -> None:
        """Writes tensors (safetensors), the guard's settings and the history (JSON) into an existing folder.

        Raises:
            TypeError: If the guard has no name, see :class:`~unlearn.models.guards.Guard`.
        """
        _write(self.weights, folder / WEIGHTS)
        _write({} if self.map is None else {"map": self.map}, folder / MAP)
        (folder / HISTORY).write_text(json.dumps(self.history))
        # Always there, so that an erasure that has lost its guard is not taken for one without.
        (folder / GUARD).write_text(json.dumps(self.guard and _described(self.guard), indent=1) + "\n")
        if self.guard is not None:
            _write(self.guard.state(), folder / STATE)

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
            matrix = load_file(folder / MAP).get("map")
            history = json.loads((folder / HISTORY).read_text())
            described = json.loads((folder / GUARD).read_text())
            guard = None if described is None else _guard(described, load_file(folder / STATE))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"erasure: {folder} does not hold a whole erasure ({error}). Delete the folder and run again."
            ) from error
        return cls(weights=weights, guard=guard, history=history, map=matrix)


def contents(tensors: Mapping[str, Tensor]) -> str:
    """One digest of named tensors, as 32 hex digits: changes with any name, dtype, shape or number."""
    lines = []
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest = xxhash.xxh3_128(flat.numpy().data).hexdigest()
        lines.append(f"{digest} {tensor.dtype} {tuple(tensor.shape)} {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:32]


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _described(guard: Guard) -> dict[str, Any]:
    """The name of the guard's class, and its fields but for the tensors."""
    names = [name for name, cls in GUARDS.items() if type(guard) is cls]
    if not names:
        raise TypeError(f"guard: {type(guard).__name__} cannot be stored, since it has no name")
    given: Any = guard
    stored = [part.name for part in fields(given) if part.init and part.name not in guard.state()]
    return {"guard": names[0], "settings": {name: getattr(guard, name) for name in stored}}


def _guard(described: dict[str, Any], state: dict[str, Tensor]) -> Guard:
    name = described["guard"]
    if name not in GUARDS:
        raise ValueError(unknown("guard", str(name), GUARDS))
    return GUARDS[name](**described["settings"], **state)
