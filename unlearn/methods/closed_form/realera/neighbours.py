r"""Embeddings around an embedding.

A neighbour of :math:`e`, with :math:`r = \|e\|`, is drawn without rejection: with :math:`s` uniform between
two cosines and :math:`u` a random unit vector across :math:`e`,

.. math:: e + \eta = r \left( s \, \hat e + \sqrt{1 - s^2} \, u \right) .

Its cosine to :math:`e` is :math:`s`, its length :math:`r`, and its distance :math:`r \sqrt{2 (1 - s)}`, so
that a largest distance is a smallest cosine. Across :math:`e`, each of :math:`d - 1` coordinates has the
variance :math:`r^2 (1 - E[s^2]) / (d - 1)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.settings import Settings, setting


@dataclass(kw_only=True)
class Shell(Settings):
    r"""A part of the space around an embedding, and how many are drawn from it.

    Attributes:
        count: Embeddings drawn around each token embedding.
        cosine: Lowest and highest cosine to it.
        distance: Largest distance from it, in units of its length; 2 and more is no limit.
    """

    count: int = setting(least=0)
    cosine: list[float] = setting(least=-1, most=1, count=2)
    distance: float = setting(default=2.0, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cosine[0] > self.cosine[1]:
            raise ValueError(f"cosine: must be two numbers from -1 to 1, the lower first, got {self.cosine}")
        low, high = self.range
        if low > high:
            raise ValueError(
                f"distance: must be at least {(2 - 2 * high) ** 0.5:.3g} to allow a cosine of {high}, "
                f"got {self.distance}"
            )

    @property
    def range(self) -> tuple[float, float]:
        """Cosines that are within the largest distance, too."""
        low, high = self.cosine
        return max(low, 1 - min(self.distance, 2.0) ** 2 / 2), high

    @property
    def along(self) -> float:
        r""":math:`E[s^2]`: the share of a draw's square length that is along the embedding."""
        low, high = self.range
        return (low**2 + low * high + high**2) / 3

    def around(
        self, rows: Tensor, random: Generator, directions: Tensor | None = None, count: int | None = None
    ) -> Tensor:
        r"""Draws neighbours.

        Arguments:
            rows: Embeddings :math:`e`, with shape :math:`(n, d)`.
            random: A CPU generator.
            directions: :math:`L`, with shape :math:`(d, d)`: a draw goes across :math:`e` along :math:`L z`
                with :math:`z` normal. All directions are alike without.
            count: How many around each, if not :attr:`count`.

        Returns:
            Neighbours with shape :math:`(n, K, d)`, in the dtype of ``rows``.
        """
        shape = (len(rows), self.count if count is None else count)
        low, high = self.range
        # In float32 on the CPU, so that device and dtype do not change what is drawn.
        cosine = low + (high - low) * torch.rand(*shape, 1, generator=random)
        across = torch.randn(*shape, rows.shape[1], generator=random)
        cosine, across = cosine.to(rows), across.to(rows)
        if directions is not None:
            across = across @ directions.T.to(rows)
        length = rows.norm(dim=-1, keepdim=True)[:, None]
        unit = rows[:, None] / length
        across = across - (across * unit).sum(dim=-1, keepdim=True) * unit
        across = across / across.norm(dim=-1, keepdim=True)
        neighbours: Tensor = length * (cosine * unit + (1 - cosine.square()).clamp(min=0).sqrt() * across)
        return neighbours


def root(gram: Tensor) -> Tensor:
    r""":math:`L` with :math:`L L^\top` the given Gram matrix, with shape :math:`(d, d)`."""
    values, vectors = torch.linalg.eigh(gram)
    factor: Tensor = vectors * values.clamp(min=0).sqrt()
    return factor
