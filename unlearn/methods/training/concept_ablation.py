"""Concept Ablation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import fit
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.start_token import start_token_detached
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting

TARGETS = ("anchor", "noise")
TEACHERS = ("trained", "original")


@dataclass(kw_only=True)
class ConceptAblation(Trained):
    r"""Fine-tunes the denoiser to take a concept's sentences for those of its anchor.

    On images :math:`x_0` that the original model drew for a sentence :math:`a` with the anchor, and with
    :math:`c` the same sentence with the concept, the loss is, model-based and noise-based,

    .. math::
        \sum_\text{channels} \| \epsilon_\theta(x_t, t, c) - \mathrm{sg}\, \epsilon_\theta(x_t, t, a) \|^2
        \qquad \text{or} \qquad
        \sum_\text{channels} \| \epsilon_\theta(x_t, t, c) - \epsilon \|^2 ,

    a mean over pixels and images, and to that is added, where the anchor's words are among the concept's,
    :math:`w` times the mean of :math:`\| \epsilon_\theta(x'_t, t', a') - \epsilon' \|^2` on other images
    of the anchor. The sum over channels, four times a mean on Stable Diffusion, is what the released code
    computes; beside the other term and under a limit on the gradient's norm it matters. The start token, the
    same in every prompt, is taken out of the gradients of keys and values.

    The prediction for the anchor comes from the weights under training, as released, or from the original
    ones (``teacher: original``), which costs as much and cannot drift. The released code trains on images
    for 200 sentences per anchor that a language model or a search of captions gives; here the sentences are
    the concept's own or the packaged ones. It flips all images of memorised pictures and shrinks and enlarges
    those of objects; here they are used as they were drawn, and stay latents all the way.

    References:
        | Ablating Concepts in Text-to-Image Diffusion Models (Kumari et al., 2023)
        | https://arxiv.org/abs/2303.13516

    Attributes:
        target: What the prediction for the concept is drawn to: ``anchor``, the one for the anchor, or
            ``noise``, the noise that was added.
        teacher: Whose prediction for the anchor that is: of the weights as ``trained`` so far, or of the
            ``original`` ones.
        prior_scale: :math:`w`; 0 leaves the term and its forward pass out.
        images: Images of the anchor.
        negative_prompt: Whether the concept's phrases are the negative prompt of these images.
        batch_size: Images in each step, and as many again for the second term.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2303.13516"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    target: str = setting(choices=TARGETS)
    teacher: str = setting(choices=TEACHERS)
    prior_scale: float = setting(least=0)
    images: int = setting(least=1)
    negative_prompt: bool

    @property
    def reads(self) -> frozenset[str]:
        """All but what is retained."""
        return frozenset({"anchor", "templates"})

    def idle(self, concepts: ConceptSet) -> dict[str, str]:  # noqa: ARG002
        """The teacher where nobody is asked, and the negative prompt where nothing is guided away from it."""
        found = {} if self.target == "anchor" else {"teacher": "It counts with target=anchor."}
        if self.sampler.guidance == 1:
            found["negative_prompt"] = "It counts with a sampler.guidance other than 1."
        return found

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws the images and trains the selected parameters."""
        self.check(model, concepts)
        matching(model, self.parameters)  # complains before anything is drawn
        anchors = Anchors.draw(model, concepts, self.images, self.sampler, context, self.negative_prompt)
        with select(model, self.parameters) as selection, start_token_detached(model):

            def loss(step: int) -> Tensor:
                return self.loss(model, selection, anchors, step, context)

            return finished(selection, fit(selection, loss, self.steps, self.optimizer, context))

    def loss(
        self, model: DiffusionModel, selection: Selection, anchors: Anchors, step: int, context: Context
    ) -> Tensor:
        """The loss of one step, with shape :math:`()`, from one forward pass with gradients."""
        random = context.generator("concept_ablation", "step", step)
        batch = anchors.batch(self.batch_size, step, context)
        noised = Noised.draw(model, batch.clean, random)
        target = noised.target
        if self.target == "anchor":
            with selection.original() if self.teacher == "original" else torch.no_grad():
                target = model.predict(noised.latents, noised.timesteps, batch.anchored)
        if not self.prior_scale:
            return distance(model.predict(noised.latents, noised.timesteps, batch.erased), target)
        others = anchors.batch(self.batch_size, step, context, "prior")
        kept = Noised.draw(model, others.clean, random)
        predicted, again = model.predict(
            torch.cat([noised.latents, kept.latents]),
            torch.cat([noised.timesteps, kept.timesteps]),
            Conditioning.cat([batch.erased, others.anchored]),
        ).chunk(2)
        return distance(predicted, target) + self.prior_scale * (again - kept.target).square().mean()


def distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance of predictions, added up over channels, its mean over pixels and images.

    Arguments:
        predicted: With shape :math:`(B, C, h, w)`.
        target: With shape :math:`(B, C, h, w)`.
    """
    return (predicted - target).square().sum(dim=1).mean()
