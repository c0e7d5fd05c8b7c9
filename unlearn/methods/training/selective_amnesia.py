"""Selective Amnesia."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.captions import captions, without
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import fit
from unlearn.methods.training.material.aligned import Images, drawn
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.material.states import once
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class SelectiveAmnesia(Trained):
    r"""Learns another image for a concept, and holds the weights that others need.

    On images :math:`x` that the original model :math:`\phi` drew for a sentence with the anchor, with
    :math:`c` the same sentence with the concept, and on images :math:`x'` of other captions :math:`c'`, the
    loss is

    .. math::
        \| \epsilon_\theta(x_t, t, c) - \epsilon \|^2
        + \gamma \, \| \epsilon_\theta(x'_{t'}, t', c') - \epsilon' \|^2
        + \lambda \sum_i F_i \, (\theta_i - \phi_i)^2, \qquad
        F = \mathbb{E}_{x'} \Big( \nabla_\phi \sum_t \| \epsilon_\phi(x'_t, t, c') - \epsilon \|^2 \Big)^2 :

    relabelling, and from continual learning, generative replay and elastic weight consolidation by the Fisher
    information :math:`F`.

    For :math:`F` the released code goes forwards and backwards for each of 1,000 timesteps of each of 5,000
    images. Here, of each image, ``fisher_timesteps`` stand for all, one from each of as many equal parts;
    with 1,000 it is the released sum. With few, noise of single timesteps adds to :math:`F`, so that the
    same :math:`\lambda` holds more. Its replayed images are of 4,999 prompts that a language model wrote;
    here they are of what is retained and of unrelated words, in the concept's and in packaged sentences.

    References:
        | Selective Amnesia: A Continual Learning Approach to Forgetting in Deep Generative Models (Heng and
          Soh, 2023)
        | https://arxiv.org/abs/2305.10120

    Attributes:
        images: Images of the anchor.
        replay: Images of what stays.
        replay_scale: :math:`\gamma`.
        fisher_images: Of these, how many :math:`F` is the mean over.
        fisher_timesteps: Timesteps of each that stand for all.
        fisher_scale: :math:`\lambda`.
        batch_size: Images of either kind in each step.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2305.10120"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    images: int = setting(least=1)
    replay: int = setting(least=1)
    replay_scale: float = setting(least=0)
    fisher_images: int = setting(least=1)
    fisher_timesteps: int = setting(least=1)
    fisher_scale: float = setting(least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fisher_images > self.replay:
            raise ValueError(f"fisher_images: there are {self.replay} images, got {self.fisher_images}")

    def idle(self, concepts: ConceptSet) -> dict[str, str]:  # noqa: ARG002
        """What the Fisher information is taken over, where it has no weight."""
        unused = [] if self.fisher_scale else ["fisher_images", "fisher_timesteps"]
        return dict.fromkeys(unused, "It counts with fisher_scale above 0.")

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws the images, takes the Fisher information and trains the selected parameters."""
        self.check(model, concepts)
        matching(model, self.parameters)  # complains before anything is drawn
        if self.fisher_timesteps > (count := len(model.alphas_cumprod)):
            raise ConfigError(f"method.fisher_timesteps: there are {count}, got {self.fisher_timesteps}.")
        texts = without(concepts, captions(concepts, 3))
        order = shuffled(len(texts), self.replay, 0, context, "selective_amnesia", "captions").tolist()
        anchors = Anchors.draw(model, concepts, self.images, self.sampler, context)
        kept = drawn(model, [texts[i] for i in order], "replay", self.sampler, context)
        with select(model, self.parameters) as selection:

            def make() -> dict[str, Tensor]:
                return self.fisher(model, selection, kept, context)

            found = once(context.scratch / "fisher.safetensors", make, context.meter)
            held = Held.at(selection, {name: value.to(model.device) for name, value in found.items()})

            def loss(step: int) -> Tensor:
                return self.loss(model, anchors, kept, held, step, context)

            return finished(selection, fit(selection, loss, self.steps, self.optimizer, context))

    def fisher(
        self, model: DiffusionModel, selection: Selection, kept: Images, context: Context
    ) -> dict[str, Tensor]:
        """:math:`F` of every number, by the full name of its parameter."""
        parameters = list(selection.parameters.values())
        total = [torch.zeros_like(parameter) for parameter in parameters]
        share = len(model.alphas_cumprod) / self.fisher_timesteps
        for i in range(self.fisher_images):
            random = context.generator("selective_amnesia", "fisher", i)
            inside = torch.rand(self.fisher_timesteps, generator=random)
            timesteps = ((torch.arange(self.fisher_timesteps) + inside) * share).long()
            gradients = [torch.zeros_like(parameter) for parameter in parameters]
            for t in torch.split(timesteps, self.batch_size):
                clean, sentences = kept.batch(torch.full((len(t),), i))
                noised = Noised.at(model, clean, t, random)
                error = model.predict(noised.latents, noised.timesteps, sentences) - noised.target
                loss = share * error.square().mean(dim=(1, 2, 3)).sum()
                for sum_, gradient in zip(gradients, gradients_of(loss, parameters), strict=True):
                    sum_ += gradient
            for mean, gradient in zip(total, gradients, strict=True):
                mean += gradient.square() / self.fisher_images
        return dict(zip(selection.parameters, total, strict=True))

    def loss(
        self,
        model: DiffusionModel,
        anchors: Anchors,
        kept: Images,
        held: Held,
        step: int,
        context: Context,
    ) -> Tensor:
        """The loss of one step, with shape :math:`()`, from one forward pass."""
        random = context.generator("selective_amnesia", "step", step)
        batch = anchors.batch(self.batch_size, step, context)
        chosen = shuffled(len(kept.rows), self.batch_size, step, context, "selective_amnesia", "replay")
        clean, sentences = kept.batch(chosen)
        first, second = (Noised.draw(model, each, random) for each in (batch.clean, clean))
        predicted, again = model.predict(
            torch.cat([first.latents, second.latents]),
            torch.cat([first.timesteps, second.timesteps]),
            Conditioning.cat([batch.erased, sentences]),
        ).chunk(2)
        relabelling = (predicted - first.target).square().mean()
        replaying = (again - second.target).square().mean()
        return relabelling + self.replay_scale * replaying + self.fisher_scale * held.distance()


@dataclass(frozen=True)
class Held:
    """Weights that are pulled back to where they were.

    Attributes:
        parameters: The weights, by full name.
        originals: Where they were.
        fisher: How strongly each number is pulled.
    """

    parameters: Mapping[str, Tensor]
    originals: Mapping[str, Tensor]
    fisher: Mapping[str, Tensor]

    @classmethod
    def at(cls, selection: Selection, fisher: Mapping[str, Tensor]) -> Held:
        """Holds the selected parameters where they are."""
        now = {name: parameter.detach().clone() for name, parameter in selection.parameters.items()}
        return cls(selection.parameters, now, fisher)

    def distance(self) -> Tensor:
        r""":math:`\sum_i F_i (\theta_i - \phi_i)^2`, with shape :math:`()`."""
        parts = [
            (self.fisher[name] * (parameter - self.originals[name]).square()).sum()
            for name, parameter in self.parameters.items()
        ]
        return torch.stack(parts).sum()
