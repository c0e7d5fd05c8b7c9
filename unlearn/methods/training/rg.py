"""Restricted gradients: ascent on a concept and descent on the rest, neither against the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import Composed, fit
from unlearn.methods.training.material.aligned import PARTNERS, Images, aligned, drawn
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.surgery import Conflict, restricted
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class RG(Trained):
    r"""Unlearns a concept's images along gradients that do not harm those that stay.

    With the denoising losses on images :math:`x` that the original draws for a sentence with the concept
    :math:`c`, and on images :math:`x'` for the same sentence with something else in its place, :math:`c'`,

    .. math::
        L_f = \| \epsilon_\theta(x_t, t, c) - \epsilon \|^2, \qquad
        L_r = \| \epsilon_\theta(x'_{t'}, t', c') - \epsilon' \|^2, \qquad
        g = - \nabla L_f, \qquad h = \nabla L_r ,

    a step follows :func:`~unlearn.methods.training.surgery.restricted`: what of :math:`g` works against
    :math:`h` is taken out, what of :math:`h` works against :math:`g` too, and they are added, :math:`h` with
    the weight
    :math:`\alpha`. Both losses are computed in forward passes of their own, and three inner products are all
    that the surgery needs to know of 860 million numbers.

    To first order such a step raises :math:`L_f` and lowers :math:`L_r` if it is taken as it is: with
    ``sgd``. The release and ``rg.yaml`` take it with Adam, which rescales every number and can turn the step
    against either; ``forgetting_change`` and ``retaining_change`` in the log are what it did to
    :math:`- L_f` and :math:`L_r`, both to be negative.

    Ascent has no end of its own. Above ``threshold``, a batch is not ascended: the release divides its loss
    by itself there, which has the gradient 0. ``cap`` is the one of its code for CIFAR-10: each
    :math:`\epsilon`'s squared error counts up to it. The other half of the paper is ``sentences``: pairs of
    sentences that differ in the concept alone and are many, against one sentence for all images
    (``rg_uniform``). Its 800 pairs for nudity are not ours to ship: here they are made of the concept's
    sentences.

    References:
        | Boosting Alignment for Post-Unlearning Text-to-Image Generative Models (Ko et al., 2024)
        | https://arxiv.org/abs/2412.07808

    Attributes:
        sentences: Distinct sentences around each phrase; None takes all.
        partners: What stands in the concept's place: its ``anchor``, or ``retained``, in turn the anchor and
            one of its retained phrases.
        images: Pairs of images that the original model draws beforehand.
        alpha: :math:`\alpha`.
        restrict: Whether conflicts are taken out; without, it is the plain sum.
        threshold: :math:`L_f` above which a batch is not ascended; None for no limit.
        cap: What a squared error counts for at most in :math:`L_f`; None for no limit.
        batch_size: Pairs in each step.
        retain_batches: Batches that :math:`h` is the mean of; the first is the pairs' own.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2412.07808"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    sentences: int | None = setting(least=1)
    partners: str = setting(choices=PARTNERS)
    images: int = setting(least=1)
    alpha: float = setting(least=0)
    restrict: bool
    threshold: float | None = setting(above=0)
    cap: float | None = setting(above=0)
    retain_batches: int = setting(least=1)

    @property
    def reads(self) -> frozenset[str]:
        """What is retained only where it is a partner."""
        return super().reads - (frozenset() if self.partners == "retained" else {"retain"})

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws the pairs and trains the selected parameters."""
        self.check(model, concepts)
        matching(model, self.parameters)  # complains before anything is drawn
        pairs = aligned(concepts, self.images, self.sentences, self.partners, context)
        forget = drawn(model, [old for old, _ in pairs], "forget", self.sampler, context)
        retain = drawn(model, [new for _, new in pairs], "retain", self.sampler, context)
        with select(model, self.parameters) as selection:

            def step_of(step: int) -> Composed:
                return self.composed(model, selection, forget, retain, step, context)

            return finished(selection, fit(selection, step_of, self.steps, self.optimizer, context))

    def composed(
        self,
        model: DiffusionModel,
        selection: Selection,
        forget: Images,
        retain: Images,
        step: int,
        context: Context,
    ) -> Composed:
        """What one step follows."""
        parameters = list(selection.parameters.values())
        random = context.generator("rg", "step", step)
        chosen = shuffled(len(forget.rows), self.batch_size, step, context, "rg", "pair")

        errors = squared_errors(model, forget, chosen, random)
        ascended = errors.mean().item()
        gated = self.threshold is not None and ascended > self.threshold
        g = [] if gated else gradients_of(-truncated(errors, self.cap).mean(), parameters)
        del errors  # and with them the graph, before the next is built
        h: list[Tensor] = []
        retained = 0.0
        for number in range(self.retain_batches):
            if number:
                turn = step * (self.retain_batches - 1) + number - 1
                chosen = shuffled(len(retain.rows), self.batch_size, turn, context, "rg", "retain")
            loss = squared_errors(model, retain, chosen, random).mean() / self.retain_batches
            retained += loss.item()
            own = gradients_of(loss, parameters)
            h = [a + b for a, b in zip(h, own, strict=True)] if h else own
            del loss

        values = {"loss": self.alpha * retained - ascended, "forgetting": -ascended, "retaining": retained}
        if gated:
            return Composed([self.alpha * each for each in h], values, {"retaining": h})
        conflict = Conflict.between(g, h)
        values["cosine"] = conflict.cosine
        followed = restricted(g, h, self.alpha, conflict if self.restrict else None)
        return Composed(followed, values, {"forgetting": g, "retaining": h})


def squared_errors(model: DiffusionModel, images: Images, chosen: Tensor, random: Generator) -> Tensor:
    """How far predictions on noised images are from their targets, with shape :math:`(B, C, h, w)`."""
    clean, sentences = images.batch(chosen)
    noised = Noised.draw(model, clean, random)
    return (model.predict(noised.latents, noised.timesteps, sentences) - noised.target).square()


def truncated(errors: Tensor, cap: float | None) -> Tensor:
    """Errors that count up to ``cap``, and have no gradient above it."""
    return errors if cap is None else errors.clamp(max=cap)
