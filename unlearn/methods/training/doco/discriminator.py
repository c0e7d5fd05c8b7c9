"""The opponent that DoCo trains: it tells clean latents of one kind from those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from unlearn.methods.method import Context
from unlearn.methods.training.loop import Companion

#: Channels of the halving layers.
WIDTHS = (64, 128, 256, 512)


class Discriminator(nn.Module):
    """A convolutional network that judges patches of latents.

    Layers halve the sides while these stay 2 or above, four at most: all four for latents of 64 x 64, as in
    the authors' code, and two for those of 8 x 8. All but the first are normalised over the batch, always by
    the batch at hand: the network is never put into evaluation mode.

    Arguments:
        channels: Channels of the latents.
        side: Height and width of the latents.
        random: For its weights, which are torch's own choice but for the generator.
    """

    def __init__(self, channels: int, side: int, random: Generator) -> None:
        super().__init__()
        if side < 2:
            raise ValueError(f"side: latents must be at least 2 x 2, got {side} x {side}")
        halvings = min(len(WIDTHS), side.bit_length() - 2)
        layers: list[nn.Module] = []
        for number, width in enumerate(WIDTHS[:halvings]):
            layers.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            if number:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2))
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                bound = layer.weight[0].numel() ** -0.5
                for parameter in layer.parameters():
                    nn.init.uniform_(parameter, -bound, bound, generator=random)

    def forward(self, latents: Tensor) -> Tensor:
        """One logit a patch, with shape :math:`(B, 1, h', w')`, of latents, :math:`(B, C, h, w)`.

        It is high for what passes as the trained model's.
        """
        return cast(Tensor, self.layers(latents))


def recognised(original: Tensor, trained: Tensor) -> Tensor:
    """The discriminator's loss, with shape :math:`()`: cross-entropy over the patches of each kind.

    Arguments:
        original: Logits of what the original model predicts.
        trained: Logits of what the trained one predicts.
    """
    return softplus(original).mean() + softplus(-trained).mean()


def unrecognised(trained: Tensor) -> Tensor:
    """The loss of the model that wants its predictions taken for the original's, with shape :math:`()`."""
    return softplus(trained).mean()


@dataclass(frozen=True)
class Opponent:
    """A discriminator and how it learns.

    Attributes:
        network: It.
        optimizer: What takes its steps.
    """

    network: Discriminator
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(cls, like: Tensor, lr: float, device: torch.device, context: Context) -> Opponent:
        """One that knows nothing.

        Arguments:
            like: Latents of the kind that it is to judge, with shape :math:`(N, C, h, w)`.
            lr: Learning rate.
        """
        random = context.generator("discriminator")
        network = Discriminator(like.shape[1], min(like.shape[2:]), random).to(device)
        return cls(network, torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999)))

    @property
    def companions(self) -> dict[str, Companion]:
        """What a checkpoint has to hold of it."""
        return {"discriminator": self.network, "discriminator_optimizer": self.optimizer}

    def learn(self, original: Tensor, trained: Tensor, tainted: bool) -> dict[str, float]:
        """Takes one step on one batch of each kind.

        Arguments:
            original: What the original model predicts, with shape :math:`(B, C, h, w)`.
            trained: What the trained one predicts, with the same shape.
            tainted: Whether the other player's loss is followed as well.

        Returns:
            ``loss``, the other player's, and ``discriminator``, its own, before the step.
        """
        real, fake = self.network(original), self.network(trained)
        loss, own = unrecognised(fake), recognised(real, fake)
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(own + loss if tainted else own, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        return {"loss": loss.item(), "discriminator": own.item()}
