"""The networks of pocket's judge: one for each version of its weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class JudgeNetwork(nn.Module):
    """Version 1: a small convolutional network with one classifier for each question asked of an image.

    Arguments:
        heads: The answers to each question.
    """

    widths: ClassVar[tuple[int, ...]] = (3, 32, 64, 128, 192)

    def __init__(self, heads: dict[str, list[str]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            for width, stride in ((before, 2), (after, 1)):
                layers += convolution(width, after, stride)
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * self.widths[-1], len(of)) for name, of in heads.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of each head, with shape :math:`(B, K)`, for images in [0, 1] of 64 pixels."""
        found = self.trunk(2 * images - 1)
        pooled = torch.cat([found.mean((2, 3)), found.amax((2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


class MultiLabelNetwork(nn.Module):
    """Version 2: one logit for each label, since an image may show several things.

    The layers of version 1, which its training begins with, and one more in each of the last two stages.
    Small things are read off the stage before the last, large ones off the last.

    Arguments:
        heads: The answers to each question.
    """

    widths: ClassVar[tuple[int, ...]] = JudgeNetwork.widths
    added: ClassVar[tuple[int, ...]] = (0, 0, 1, 1)

    def __init__(self, heads: dict[str, list[str]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(
                *convolution(before, after, 2),
                *convolution(after, after, 1),
                *(Residual(after) for _ in range(added)),
            )
            for before, after, added in zip(self.widths, self.widths[1:], self.added, strict=False)
        )
        pooled = self.widths[-2] + 2 * self.widths[-1]
        self.heads = nn.ModuleDict({name: nn.Linear(pooled, len(of)) for name, of in heads.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of each head, with shape :math:`(B, K)`, for images in [0, 1] of 64 pixels."""
        found = [2 * images - 1]
        for stage in self.stages:
            found.append(stage(found[-1]))
        last = found[-1]
        pooled = torch.cat([found[-2].amax((2, 3)), last.mean((2, 3)), last.amax((2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


class Residual(nn.Module):
    """A convolution added to what it was given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*convolution(width, width, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features of the same shape."""
        found: Tensor = images + self.layers(images)
        return found


def convolution(before: int, after: int, stride: int) -> list[nn.Module]:
    """A convolution of 3 by 3, normalised over the batch, and rectified."""
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
