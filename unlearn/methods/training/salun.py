"""Saliency unlearning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import Composed, fit
from unlearn.methods.training.material.aligned import Images
from unlearn.methods.training.material.pool import Noised
from unlearn.methods.training.material.relabelling import Relabelling, losses
from unlearn.methods.training.material.states import once
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class SalUn(Trained):
    r"""Relabels a concept's images, in those weights alone that matter for them.

    On images :math:`x` that the original model drew for a sentence :math:`c` with the concept, with
    :math:`a` the same sentence with its anchor, and on images :math:`x'` of a sentence :math:`c'` with
    something that stays, the loss is

    .. math::
        \| \epsilon_\theta(x_t, t, c) - \mathrm{sg}\, \epsilon_\theta(x_t, t, a) \|^2
        + \alpha \, \| \epsilon_\theta(x'_{t'}, t', c') - \epsilon' \|^2 ,

    and each step changes the salient weights only. These are found beforehand, with the original weights: the
    given share of all numbers together that has the largest :math:`|g|`, where :math:`g` is the sum, with
    its signs, of the gradients of

    .. math::
        \| \epsilon - (1 + w)\, \epsilon_\theta(x_t, t, c) + w\, \epsilon_\theta(x_t, t, \varnothing) \|^2

    over all images of the concept. All other numbers stay as they are, bit for bit.

    The authors' code took the first batch in every step until February 2026, so that the results of the paper
    and of those that compare with it were trained on 8 images of each kind; ``salun_released`` does so too.
    Here every pass is shuffled. For classes, the authors relabel to the next class and retain photographs of
    the others; for nudity, images that the model draws. Here all images are the model's own, the new label is
    the concept's anchor, and what is retained is the anchor and the retained phrases. The released code draws
    two latents of each image out of the autoencoder; here both predictions see the same one.

    References:
        | SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification
          and Generation (Fan et al., 2024)
        | https://arxiv.org/abs/2310.12508

    Attributes:
        parameters: What the salient weights are looked for in: names of selections or patterns over parameter
            names.
        share: Of these that is salient, above 0 and up to 1.
        guidance: :math:`w`.
        retain_scale: :math:`\alpha`.
        images: Images of the concept, and as many of what is retained.
        batch_size: Images of each kind in each step.
        first_batch_only: Take the same images in every step. This is a mistake of released code, here to
            reproduce it.
        optimizer: How each step is taken. Its weight decay must be 0, or all weights would shrink.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2310.12508"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    share: float = setting(above=0, most=1)
    guidance: float = setting(least=0)
    retain_scale: float = setting(least=0)
    images: int = setting(least=1)
    first_batch_only: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.optimizer.weight_decay:
            raise ValueError(
                "optimizer.weight_decay: must be 0, or weights that are not salient would shrink, "
                f"got {self.optimizer.weight_decay}"
            )

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws the images, finds the salient weights and trains them."""
        self.check(model, concepts)
        matching(model, self.parameters)  # complains before anything is drawn
        images = Relabelling.draw(model, concepts, self.images, self.sampler, context)
        with select(model, self.parameters) as selection:

            def make() -> dict[str, Tensor]:
                return salient(self.gradients(model, selection, images.forget, context), self.share)

            masks = once(context.scratch / "salient.safetensors", make, context.meter)
            order = [masks[name].to(model.device) for name in selection.parameters]

            def composed(step: int) -> Composed:
                return self.composed(model, selection, order, images, step, context)

            return finished(selection, fit(selection, composed, self.steps, self.optimizer, context))

    def gradients(
        self, model: DiffusionModel, selection: Selection, forget: Images, context: Context
    ) -> dict[str, Tensor]:
        """Gradients of the guided predictions' loss, added up over all images, by full name.

        Both predictions of a batch, which the gradient flows through, are one forward pass.
        """
        with torch.no_grad():
            empty = model.encode([""])
        total: list[Tensor] = []
        for number, start in enumerate(range(0, len(forget.rows), self.batch_size)):
            chosen = torch.arange(start, min(start + self.batch_size, len(forget.rows)))
            clean, sentences = forget.batch(chosen)
            noised = Noised.draw(model, clean, context.generator("salun", "saliency", number))
            both = Conditioning.cat([sentences, empty.repeat(len(chosen))])
            predicted = model.predict(noised.latents.repeat(2, 1, 1, 1), noised.timesteps.repeat(2), both)
            conditional, unconditional = predicted.chunk(2)
            guided = (1 + self.guidance) * conditional - self.guidance * unconditional
            loss = (guided - noised.target).square().mean()
            found = gradients_of(loss, list(selection.parameters.values()))
            total = [a + b for a, b in zip(total, found, strict=True)] if total else found
        return dict(zip(selection.parameters, total, strict=True))

    def composed(
        self,
        model: DiffusionModel,
        selection: Selection,
        masks: list[Tensor],
        images: Relabelling,
        step: int,
        context: Context,
    ) -> Composed:
        """The masked gradients of one step.

        Arguments:
            masks: Which numbers of each trained parameter are salient.
        """
        random = context.generator("salun", "step", step)
        turn = 0 if self.first_batch_only else step
        forgetting, retaining = losses(model, *images.tasks(model, self.batch_size, turn, random, context))
        loss = forgetting + self.retain_scale * retaining
        gradients = gradients_of(loss, list(selection.parameters.values()))
        return Composed(
            [gradient * mask for gradient, mask in zip(gradients, masks, strict=True)],
            {"loss": loss.item(), "forgetting": forgetting.item(), "retaining": retaining.item()},
        )


def salient(gradients: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Which numbers have the largest gradients, of all parameters together.

    Arguments:
        gradients: By name, of any shape.
        share: Of all numbers that is salient; of ``N``, these are ``int(share * N)``, and more only if
            several have the very same gradient.

    Returns:
        A bool for each number, by name.

    Raises:
        ValueError: If the share is less than one number.
    """
    sizes = torch.cat([gradient.detach().abs().flatten() for gradient in gradients.values()])
    kept = int(share * len(sizes))
    if not kept:
        raise ValueError(f"share: must leave at least one of {len(sizes)} numbers, got {share}")
    threshold = sizes.kthvalue(len(sizes) - kept + 1).values
    return {name: gradient.abs() >= threshold for name, gradient in gradients.items()}
