"""Erased Stable Diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import fit
from unlearn.methods.training.material.states import States, draw, once
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.weights.parameters import Selection, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class ESD(Trained):
    r"""Fine-tunes the denoiser to steer away from what its original did with the concept.

    With :math:`\phi` the original weights and :math:`\theta` the trained ones, the loss is

    .. math::
        \| \epsilon_\theta(x_t, t, c) - [ \epsilon_\phi(x_t, t, \varnothing)
        - \eta ( \epsilon_\phi(x_t, t, c) - \epsilon_\phi(x_t, t, \varnothing) ) ] \|^2

    on latents :math:`x_t` from the middle of trajectories drawn for the concept. This is the paper's equation
    7. The authors' diffusers script writes it with :math:`\epsilon_\phi(x_t, t, c)` in place of the first
    :math:`\epsilon_\phi(x_t, t, \varnothing)`, so that its ``negative_guidance`` 2 is our 1.

    Paper and first release draw :math:`x_t` with the weights under training (``refresh: 1``); the diffusers
    script draws it with the original ones (``refresh: null``), which is the default here, because all
    trajectories can then be drawn at once, and because the predictions that guidance needs on the way are the
    ones that the loss needs too: no further evaluation of the original model. Both releases use one latent of
    each trajectory; ``states`` of them are used here. Each is evaluated at the timestep that it stands at,
    unlike in the first release, where latents are 40 to 60 timesteps cleaner than the timestep they are
    evaluated at. The diffusers script draws at 1024 pixels and trains in bfloat16, in which small steps are
    rounded away; here it is the model's resolution and float32.

    References:
        | Erasing Concepts from Diffusion Models (Gandikota et al., 2023)
        | https://arxiv.org/abs/2303.07345

    Attributes:
        negative_guidance: :math:`\eta`.
        batch_size: Latents in each step.
        states: Latents taken from each trajectory, at different timesteps.
        refresh: Draw new latents with the weights under training every so many steps; None draws all latents
            with the original weights beforehand.
        erase_from: A broader prompt, such as "a cowboy" where "a cowboy hat" is erased: latents are drawn for
            it, the trained prediction is the one under it, and the concept's share is taken out of its own.
            None trains the concept itself.
        sampler: How the trajectories are drawn.
    """

    paper: ClassVar[str] = "2303.07345"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    negative_guidance: float = setting(least=0)
    states: int = setting(least=1)
    refresh: int | None = setting(default=None, least=1, unit="optimizer steps")
    erase_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.states > self.sampler.steps:
            raise ValueError(f"states: a trajectory has {self.sampler.steps} steps, got {self.states}")

    @property
    def reads(self) -> frozenset[str]:
        """Its sentences alone."""
        return frozenset({"templates"})

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Trains the selected parameters."""
        self.check(model, concepts)
        phrases = concepts.erased
        with torch.no_grad():
            concept = model.encode(phrases)
            asked = concept if self.erase_from is None else model.encode([self.erase_from] * len(phrases))
            prompts = Conditioning.cat([model.encode([""]), asked])
        kept: dict[int, States] = {}

        def loss(step: int) -> Tensor:
            block, offset = divmod(step, self.refresh or self.steps)
            if block not in kept:
                kept.clear()
                kept[block] = self.stored(model, selection, prompts, block, context)
            states = kept[block][torch.arange(offset * self.batch_size, (offset + 1) * self.batch_size)]
            return self.loss(model, selection, states, asked, concept)

        with select(model, self.parameters) as selection:
            return finished(selection, fit(selection, loss, self.steps, self.optimizer, context))

    def loss(
        self,
        model: DiffusionModel,
        selection: Selection,
        states: States,
        asked: Conditioning,
        concept: Conditioning,
    ) -> Tensor:
        """Mean squared distance of the trained prediction from its target, with shape :math:`()`.

        Arguments:
            asked: The prompts that the states were drawn for.
            concept: The phrases to erase; the same unless :attr:`erase_from` is given.
        """
        rows, device = states.prompts.tolist(), model.device
        latents, timesteps = states.latents.to(device), states.timesteps.to(device)
        conditional, unconditional = states.conditional.to(device), states.unconditional.to(device)
        base = unconditional
        if self.erase_from is not None:
            base = conditional
            with selection.original():
                conditional = model.predict(latents, timesteps, concept[rows])
        target = base - self.negative_guidance * (conditional - unconditional)
        return (model.predict(latents, timesteps, asked[rows]) - target).square().mean()

    def stored(
        self, model: DiffusionModel, selection: Selection, prompts: Conditioning, block: int, context: Context
    ) -> States:
        """The states of one block of steps, from the scratch folder if a killed run left them there.

        They are kept because weights under training cannot be had back in the middle of a block; all of them,
        because the last checkpoint may lie blocks behind.
        """
        file = context.scratch / f"states-{block}.safetensors"

        def make() -> dict[str, Tensor]:
            count = self.batch_size * min(
                self.refresh or self.steps, self.steps - block * (self.refresh or 0)
            )
            random = context.generator("esd", "states", block)
            trajectories = -(-count // self.states)
            states = self.draw(
                model,
                selection,
                prompts,
                which=[i % (len(prompts) - 1) for i in range(trajectories)],
                stops=[
                    torch.randperm(self.sampler.steps, generator=random)[: self.states].tolist()
                    for _ in range(trajectories)
                ],
                seeds=[context.derive_seed("esd", "noise", block, i) for i in range(trajectories)],
            )
            return vars(states[torch.randperm(len(states), generator=random)[:count]])

        return States(**once(file, make, context.meter))

    @torch.no_grad()
    def draw(
        self,
        model: DiffusionModel,
        selection: Selection,
        prompts: Conditioning,
        which: Sequence[int],
        stops: Sequence[Sequence[int]],
        seeds: Sequence[int],
    ) -> States:
        """Draws trajectories and takes latents out of them.

        Arguments:
            prompts: The empty prompt, and those to draw for.
            which: Number of each trajectory's prompt, from 0.
            stops: Steps of each trajectory at which latents are taken.
            seeds: Seed of each trajectory's noise.

        Returns:
            Latents by trajectory and step, on the CPU.
        """
        states = draw(model, prompts, which, stops, seeds, self.sampler)
        if self.refresh is None:
            return states
        with selection.original():
            chunks = range(0, len(states), self.sampler.batch_size)
            rows = torch.arange(len(states))
            return States.cat(
                [_original(model, states[rows[i : i + self.sampler.batch_size]], prompts) for i in chunks]
            )


def _original(model: DiffusionModel, states: States, prompts: Conditioning) -> States:
    """The same latents with the predictions of the model as it is, both in one forward pass."""
    latents, timesteps = states.latents.to(model.device), states.timesteps.to(model.device)
    both = Conditioning.cat([prompts[:1].repeat(len(states)), prompts[(states.prompts + 1).tolist()]])
    predicted = model.predict(latents.repeat(2, 1, 1, 1), timesteps.repeat(2), both).cpu()
    unconditional, conditional = predicted.chunk(2)
    return States(states.latents, states.timesteps, states.prompts, conditional, unconditional)
