r"""What becomes of the gradient of a forgetting loss that works against a retaining one.

Throughout, :math:`g` is the gradient to follow for forgetting and :math:`h` that of the loss to be retained.
:func:`protected` takes :math:`h` out of :math:`g`, tensor by tensor, and lets :math:`h` alone;
:func:`restricted` takes each out of the other, over all tensors at once, and follows both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Scalings of what is taken out.
RULES = ("exact", "released")


def clipped(gradients: Sequence[Tensor], limit: float) -> list[Tensor]:
    """The same direction with a norm of at most ``limit``, over all tensors; as torch clips."""
    norm = torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients]))
    scale = (limit / (norm + 1e-6)).clamp(max=1)
    return [gradient * scale for gradient in gradients]


def protected(
    gradients: Sequence[Tensor], retained: Sequence[Tensor], share: float, rule: str
) -> tuple[list[Tensor], Tensor]:
    r"""Takes out of each tensor of :math:`g` what works against the same tensor of :math:`h`.

    .. math:: g \leftarrow g - \lambda \, \frac{\min(0, \langle g, h \rangle)}{\| h \|^2} h

    leaves, for :math:`\lambda = 1`, a step along :math:`-g` without effect on the retained loss to first
    order. As released, it is :math:`g - \lambda \min(0, \cos(g, h)) \, h / \| h \|`, which is that for
    :math:`\| g \| = 1` only: the shorter :math:`g`, the more of the step follows :math:`h` instead.

    Arguments:
        gradients: :math:`g`, one tensor for each parameter.
        retained: :math:`h`, likewise.
        share: :math:`\lambda`.
        rule: ``exact`` or ``released``.

    Returns:
        The tensors to follow, and the share of them that worked against :math:`h`, with shape :math:`()`.
    """
    adjusted, against = [], []
    for g, h in zip(gradients, retained, strict=True):
        if rule == "released":
            direction = h / (h.norm() + 1e-8)
            along = (g / (g.norm() + 1e-8) * direction).sum()
        else:
            norm = h.norm()
            direction = h / torch.where(norm > 0, norm, 1)
            along = (g * direction).sum()
        adjusted.append(g - share * along.clamp(max=0) * direction)
        against.append(along < 0)
    return adjusted, torch.stack(against).float().mean()


@dataclass(frozen=True)
class Conflict:
    r"""Two gradients, and the three products that tell how they stand to each other.

    Attributes:
        product: :math:`\langle g, h \rangle`.
        forgetting: :math:`\| g \|^2`.
        retaining: :math:`\| h \|^2`.
    """

    product: float
    forgetting: float
    retaining: float

    @classmethod
    def between(cls, gradients: Sequence[Tensor], retained: Sequence[Tensor]) -> Conflict:
        """Sums over all tensors, in float64; nothing is put end to end."""

        def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
            return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).double().sum()

        products = inner(gradients, retained), inner(gradients, gradients), inner(retained, retained)
        return cls(*torch.stack(products).tolist())

    @property
    def cosine(self) -> float:
        """Of the angle between the two; 0 if one of them is 0."""
        lengths = (self.forgetting * self.retaining) ** 0.5
        return self.product / lengths if lengths else 0.0

    def shares(self, scale: float) -> tuple[float, float]:
        r"""How much of :math:`g` and of :math:`h` the restricted gradient is made of.

        Arguments:
            scale: :math:`\alpha`, see :func:`restricted`.
        """
        if self.product >= 0:
            return 1.0, scale
        return 1 - scale * self.product / self.forgetting, scale - self.product / self.retaining


def restricted(
    gradients: Sequence[Tensor], retained: Sequence[Tensor], scale: float, conflict: Conflict | None
) -> list[Tensor]:
    r"""Takes out of each gradient what works against the other, and adds the two.

    .. math::
        d = \Big( g - \frac{\min(0, \langle g, h \rangle)}{\| h \|^2} h \Big)
        + \alpha \Big( h - \frac{\min(0, \langle g, h \rangle)}{\| g \|^2} g \Big)

    over all tensors as one vector. Where they conflict, :math:`\langle d, g \rangle = \| g \|^2 \sin^2` and
    :math:`\langle d, h \rangle = \alpha \| h \|^2 \sin^2` of the angle between them: a small step along
    :math:`-d` lowers both losses. A gradient that is 0 conflicts with nothing.

    Arguments:
        gradients: :math:`g`, one tensor for each parameter.
        retained: :math:`h`, likewise.
        scale: :math:`\alpha`.
        conflict: Theirs; None for the plain sum :math:`g + \alpha h`.
    """
    own, other = (1.0, scale) if conflict is None else conflict.shares(scale)
    return [own * g + other * h for g, h in zip(gradients, retained, strict=True)]
