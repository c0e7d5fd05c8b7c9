"""The second part of RealEra: low-rank training that aligns noise predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearn.methods.closed_form.realera.neighbours import Shell
from unlearn.methods.method import Context
from unlearn.methods.training.loop import Optimizer, fit
from unlearn.methods.training.material.pool import clean_latents
from unlearn.methods.training.material.states import once
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler
from unlearn.models.weights.adapters import adapted
from unlearn.models.weights.parameters import Selection
from unlearn.settings import Settings, setting


@dataclass(kw_only=True)
class Alignment(Settings):
    r"""Trains low-rank additions so that predictions on neighbours of a concept are those on its anchor.

    With :math:`\phi` the original weights and :math:`\theta` the edited ones with the additions, the loss is

    .. math::
        \| \epsilon_\theta(x_t, t, e + \eta) - \epsilon_\phi(x_t, t, a) \|^2
        + \beta \, \| \epsilon_\theta(x_t, t, e + \zeta) - \epsilon_\phi(x_t, t, e + \zeta) \|^2

    with a new neighbour :math:`e + \eta` and a new embedding :math:`e + \zeta` beyond the concept in each
    step. All tokens but the start token are moved, each by its own. :math:`x_t` are images that the original
    drew for the concept and for the anchor, with noise at a random timestep.

    That RealEra aligns noise predictions by a LoRA is in its abstract. Its form, its place and all numbers
    are reconstructed here.

    Attributes:
        rank: Of the addition to each edited projection.
        steps: Optimizer steps.
        batch_size: Latents in each step.
        beta: :math:`\beta`, the weight of what is beyond the concept.
        images: Images that are drawn, in turn for the concept and for the anchor.
        optimizer: How each step is taken.
        sampler: How the images are drawn.
    """

    rank: int = setting(least=1)
    steps: int = setting(least=1)
    batch_size: int = setting(least=1)
    beta: float = setting(least=0)
    images: int = setting(least=1)
    optimizer: Optimizer
    sampler: Sampler

    def align(
        self,
        model: DiffusionModel,
        edited: Selection,
        pairs: Sequence[tuple[str, str]],
        shells: tuple[Shell, Shell],
        directions: Tensor | None,
        context: Context,
    ) -> list[dict[str, float]]:
        """Trains the additions and puts them into the edited weights.

        Arguments:
            model: The model with its edit.
            edited: The edited projections, each of shape :math:`(o, d)`, and how to have them back.
            pairs: What is erased, and its anchor.
            shells: Where neighbours are, and what is beyond.
            directions: See :meth:`~unlearn.methods.closed_form.realera.neighbours.Shell.around`.

        Returns:
            The history of the training.
        """
        with torch.no_grad():
            concept = model.encode([old for old, _ in pairs])
            anchor = model.encode([new for _, new in pairs])

        def make() -> dict[str, Tensor]:
            with edited.original():
                return {"images": self.images_of(model, concept, anchor, context)}

        images = once(context.scratch / "alignment.safetensors", make, context.meter)["images"]
        images = images.to(model.device)
        factors = self.factors(edited, context)

        def loss(step: int) -> Tensor:
            return self.loss(
                model, edited, factors, images, concept, anchor, shells, directions, step, context
            )

        trained = {
            f"{name}.{part}": factor
            for name, both in factors.items()
            for part, factor in zip(("down", "up"), both, strict=True)
        }
        history = fit(Selection(trained), loss, self.steps, self.optimizer, context)
        with torch.no_grad():
            for name, (down, up) in factors.items():
                edited.parameters[name].data += (up @ down)[0].to(edited.parameters[name])
        return history

    def factors(self, edited: Selection, context: Context) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
        """Additions that are 0: random :math:`A`, :math:`(1, r, d)`, and :math:`B = 0`, :math:`(1, o, r)`."""
        random = context.generator("realera", "adapters")
        found = {}
        for name, weight in edited.parameters.items():
            down = torch.randn(1, self.rank, weight.shape[1], generator=random) / self.rank
            up = torch.zeros(1, weight.shape[0], self.rank)
            found[name] = (nn.Parameter(down.to(weight)), nn.Parameter(up.to(weight)))
        return found

    def loss(
        self,
        model: DiffusionModel,
        edited: Selection,
        factors: Mapping[str, tuple[Tensor, Tensor]],
        images: Tensor,
        concept: Conditioning,
        anchor: Conditioning,
        shells: tuple[Shell, Shell],
        directions: Tensor | None,
        step: int,
        context: Context,
    ) -> Tensor:
        """The loss of one step, from one forward pass of each model: shape :math:`()`."""
        random = context.generator("realera", "step", step)
        chosen = torch.randint(len(images), (self.batch_size,), generator=random)
        clean = images[chosen.to(images.device)]
        steps = len(model.alphas_cumprod)
        t = torch.randint(steps, (self.batch_size,), generator=random).to(clean.device)
        noise = torch.randn(clean.shape, generator=random).to(clean)
        # Images were drawn for every pair in turn, two for each.
        rows = (chosen // 2 % len(concept)).tolist()
        near, beyond = (moved(concept[rows], shell, random, directions) for shell in shells)
        latents, timesteps = model.add_noise(clean, noise, t).repeat(2, 1, 1, 1), t.repeat(2)
        with edited.original():
            target = model.predict(latents, timesteps, Conditioning.cat([anchor[rows], beyond]))
        with adapted(model, factors):
            predicted = model.predict(latents, timesteps, Conditioning.cat([near, beyond]))
        erased, kept = (predicted - target).square().chunk(2)
        return erased.mean() + self.beta * kept.mean()

    def images_of(
        self, model: DiffusionModel, concept: Conditioning, anchor: Conditioning, context: Context
    ) -> Tensor:
        """Clean latents of images for each pair in turn, first the concept and then the anchor.

        Returns:
            With shape :math:`(N, C, h, w)`, on the CPU.
        """
        rows = [i // 2 % len(concept) + i % 2 * len(concept) for i in range(self.images)]
        seeds = [context.derive_seed("realera", "image", i) for i in range(self.images)]
        return clean_latents(model, Conditioning.cat([concept, anchor]), rows, seeds, self.sampler)


def moved(
    conditioning: Conditioning, shell: Shell, random: torch.Generator, directions: Tensor | None
) -> Conditioning:
    """The prompts with all tokens but the start token moved into a shell, each by its own."""
    tokens = conditioning.tokens
    rest = shell.around(tokens[:, 1:].flatten(0, 1), random, directions, count=1)
    rest = rest.reshape(len(tokens), -1, tokens.shape[-1])
    return Conditioning(torch.cat([tokens[:, :1], rest], dim=1), conditioning.pooled)
