"""Rounding of erased weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.methods.method import Context
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler
from unlearn.models.weights.parameters import matching
from unlearn.resurgence.resurgence import Place, Resurgence, Show, Subject
from unlearn.settings import setting

#: Formats by name: the floating point type, or how many bits an integer has.
FORMATS: dict[str, torch.dtype | int] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": 8,
    "int4": 4,
}


@dataclass(kw_only=True)
class Quantisation(Resurgence):
    r"""Rounds the erased weights to fewer bits.

    An erasure that moves weights by less than they are rounded by is rounded away. With :math:`b` bits, each
    row :math:`w` of a matrix, or output channel of a convolution, becomes

    .. math:: s \, \mathrm{round}(w / s), \qquad s = \max_i |w_i| / (2^{b - 1} - 1) ;

    vectors, such as biases, are left as they are. Floating point formats round all numbers. Only weights are
    rounded: the model computes in its own precision.

    References:
        | Catastrophic Failure of LLM Unlearning via Quantization (Zhang et al., 2024)
        | https://arxiv.org/abs/2410.16454

    Attributes:
        parameters: What is rounded: names of selections or patterns over parameter names.
        formats: ``bfloat16``, ``float16``, ``int8`` or ``int4``, in the order of the places.
    """

    paper: ClassVar[str] = "2410.16454"
    axis: ClassVar[str] = "format of the weights"

    parameters: list[str]
    formats: list[str] = setting(choices=FORMATS, kind="format", shape="once")

    def origin(self, sampler: Sampler) -> Place:  # noqa: ARG002
        """The model's own precision."""
        return Place(0, "as erased")

    def places(self, sampler: Sampler) -> list[Place]:  # noqa: ARG002
        """The formats."""
        return [Place(number, name) for number, name in enumerate(self.formats, start=1)]

    def visit(self, subject: Subject, context: Context, show: Show) -> None:  # noqa: ARG002
        """Rounds to each format what the erasure left."""
        model = subject.model
        with model.erased(subject.erasure):
            chosen = matching(model, self.parameters)
            for place, name in enumerate(self.formats):
                weights = {key: rounded(weight.detach(), name) for key, weight in chosen.items()}
                with model.erased(Erasure(weights=weights)):
                    show(place)


def rounded(weight: Tensor, name: str) -> Tensor:
    """A weight as a format can hold it, in its own dtype.

    Arguments:
        name: In :data:`FORMATS`.
    """
    kind = FORMATS[name]
    if isinstance(kind, torch.dtype):
        return weight.to(kind).to(weight)
    if weight.ndim < 2:
        return weight
    rows = weight.float().flatten(1)
    largest = rows.abs().amax(dim=1, keepdim=True)
    # A row of zeros has no scale and needs none.
    scale = torch.where(largest > 0, largest, 1.0) / float(2 ** (kind - 1) - 1)
    return ((rows / scale).round() * scale).reshape(weight.shape).to(weight)
