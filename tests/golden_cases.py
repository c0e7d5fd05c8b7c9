"""The golden cases of the authors' code."""

from __future__ import annotations

import json
from dataclasses import dataclass
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


def golden_case(golden: Path, name: str) -> Case:
    from safetensors.torch import load_file

    case = json.loads((golden / f"{name}.json").read_text())
    tensors = load_file(golden / f"{name}.safetensors")
    return Case(case["inputs"], case["outputs"], tensors, case["tolerance"])


def relative(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative Frobenius distance."""
    return float((value.double() - reference.double()).norm() / reference.double().norm())
