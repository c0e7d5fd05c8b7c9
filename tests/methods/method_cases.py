"""Methods with the values that ``conf/method`` gives them, and the golden cases of the authors' code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unlearn.concepts import Concept, ConceptSet


def configured(name: str, *overrides: str, world: str = "sd"):
    """The method in ``conf/method/<name>.yaml``, with ``key=value`` overrides of its fields."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from unlearn.config import register_schemas

    register_schemas()
    model = [f"+model.world={world}", "+model.sampler.resolution=32", "+model.sampler.batch_size=4"]
    with initialize_config_module("unlearn.conf", version_base="1.3"):
        config = compose(overrides=[f"+method={name}", *model, *(f"method.{o}" for o in overrides)])
    return OmegaConf.to_object(config.method)


def concept_set(*phrases: str, anchor: str = "dog", retain=("house",), kind: str = "object") -> ConceptSet:
    """One concept for each phrase."""
    return ConceptSet(
        erase={
            phrase: Concept(
                kind=kind,
                phrases=[phrase],
                anchor=anchor,
                retain=list(retain),
                prompts=None,
                detector="judge",
                labels=[phrase],
            )
            for phrase in phrases
        }
    )


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
