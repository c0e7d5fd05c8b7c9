"""Membranes: additions of low rank to the layers of a denoiser, in one vector for each concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.errors import ConfigError
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.adapters import Factors, unpacked
from unlearn.models.weights.parameters import matching


@dataclass(frozen=True)
class Layers:
    r"""The layers that membranes are attached to.

    A membrane is a vector with shape :math:`(P,)`: for each layer in turn, its factors :math:`A`, with shape
    :math:`(r, d)`, and :math:`B`, with shape :math:`(o, r)`.

    Attributes:
        shapes: Shape :math:`(o, d)` of each layer's weight, by full name.
        rank: :math:`r`.
    """

    shapes: Mapping[str, tuple[int, int]]
    rank: int

    @classmethod
    def of(cls, model: DiffusionModel, patterns: Sequence[str], rank: int) -> Layers:
        """The layers whose weights match.

        Raises:
            ConfigError: If one is no matrix, nor a convolution of single pixels.
        """
        shapes = {}
        for name, weight in matching(model, patterns).items():
            if not name.endswith(".weight") or weight.ndim not in (2, 4) or weight[0, 0].numel() != 1:
                raise ConfigError(
                    f"method.parameters: must match weights of linear layers and of convolutions of single "
                    f"pixels, got '{name}' with shape {tuple(weight.shape)}."
                )
            shapes[name] = (weight.shape[0], weight.shape[1])
        return cls(shapes, rank)

    def start(self, random: Generator) -> Tensor:
        r"""A membrane that does nothing: :math:`A` uniform within :math:`\pm 1 / \sqrt d`, :math:`B = 0`."""
        parts = []
        for out, width in self.shapes.values():
            parts.append((2 * torch.rand(self.rank * width, generator=random) - 1) / width**0.5)
            parts.append(torch.zeros(out * self.rank))
        return torch.cat(parts)

    def factors(self, membrane: Tensor) -> Factors:
        """The factors of one membrane, the same for a whole batch."""
        return unpacked(membrane[None], self.shapes, self.rank)

    def stacked(self, membranes: Tensor) -> Factors:
        """Those of several, with shape :math:`(K, P)`, as one of rank :math:`K r`: theirs in turn."""
        return {
            name: (down.flatten(0, 1)[None], up.permute(1, 0, 2).flatten(1)[None])
            for name, (down, up) in unpacked(membranes, self.shapes, self.rank).items()
        }

    def changes(self, membranes: Tensor) -> dict[str, Tensor]:
        """What several, with shape :math:`(K, P)`, add to the weights together, with shape :math:`(o, d)`."""
        return {name: (up @ down)[0] for name, (down, up) in self.stacked(membranes).items()}
