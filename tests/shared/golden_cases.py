"""The golden cases of the authors' code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Case:
    """One run of the authors' code."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    tolerance: dict[str, dict[str, Any]]

    def weights(self, prefix: str) -> dict[str, torch.Tensor]:
        """Tensors by the name that we have for the parameter."""
        return {
            f"unet.{name.removeprefix(prefix)}": value
            for name, value in self.tensors.items()
            if name.startswith(prefix)
        }

    def bound(self, name: str) -> float:
        """The tolerance of an output. An entry may hold for several, and says in brackets where they are."""
        for names, entry in self.tolerance.items():
            patterns = names.partition(" (")[0].split(", ")
            if any(pattern == "all outputs" or fnmatch(name, pattern) for pattern in patterns):
                return float(entry["tol"])
        raise KeyError(name)


def golden_case(golden: Path, name: str) -> Case:
    from safetensors.torch import load_file

    case = json.loads((golden / f"{name}.json").read_text())
    tensors = load_file(golden / f"{name}.safetensors")
    return Case(case["inputs"], case["outputs"], tensors, case["tolerance"])


def resolution(model: Any, latents: torch.Tensor) -> int:
    """Pixels on a side of the images that latents of this shape become."""
    pixels = 64
    return pixels * latents.shape[-1] // model.latent_shape(pixels)[-1]


def relative(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative Frobenius distance."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())
