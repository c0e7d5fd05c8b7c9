"""Decremental unlearning without generalization erosion, as far as it can be reconstructed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import IncompatibleError
from unlearn.methods.method import Context, finished
from unlearn.methods.training.duge.lessons import Batch, Course, Lesson
from unlearn.methods.training.loop import Composed, fit
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.attention import outputs
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting

PRIORS = ("noise", "original")
REFERENCES = ("original", "previous")


@dataclass(kw_only=True)
class DUGE(Trained):
    r"""Teaches cross-attention to do with a concept what the original does with its surrogate, one by one.

    With :math:`\theta` the trained weights, :math:`\phi` the original ones, and :math:`A_l`, with shape
    :math:`(B, P, C_l)`, what the :math:`l`-th cross-attention block puts out, the loss is

    .. math::
        \lambda_{ca} \, \frac{1}{L} \sum_l \overline{\big( A_l^\theta(x_t, c) - A_l^\phi(x_t, s) \big)^2}
        + \lambda_{pp} \, \overline{\big( \epsilon_\theta(x'_t, t, n) - \epsilon \big)^2}
        + \lambda_{reg} \, \overline{(\theta - \theta_{ref})^2} ,

    with a bar for the mean over all elements. :math:`x_t` are noised images of the surrogate :math:`s` of the
    concept :math:`c`, which is its anchor in the same sentence; :math:`x'_t` are noised images of a memory of
    neighbouring concepts :math:`n`. All images are drawn by the original model. In a sequence the weights go
    on from where the step before has left them, while :math:`\phi` stays the original; a share of every batch
    is of concepts that were erased before, so that they do not come back; and the memory holds neighbours of
    all concepts so far, but none that is erased.

    **This is a reconstruction.** The authors' code was not at hand, and of the paper only its abstract and an
    overview: that concepts are removed one after another with a frozen model beside the trained one, and that
    there are three losses, of which one works on cross-attention and leads to images without the concept, one
    keeps what is known of related concepts, and one regularises. The form of all three, that the frozen model
    is the original and not that of the step before, what is trained, how batches are mixed, and every number
    are ours; the weight of the regularisation comes from a study of continual unlearning (L2-SP in
    justinhylee135/CUIG).

    References:
        | Continual Unlearning for Foundational Text-to-Image Models without Generalization Erosion
        | (Thakral et al., 2025)
        | https://arxiv.org/abs/2503.13769

    Attributes:
        attention_scale: :math:`\lambda_{ca}`.
        prior_scale: :math:`\lambda_{pp}`.
        regularisation: :math:`\lambda_{reg}`.
        reference: What :math:`\theta_{ref}` is: the ``original`` weights, or those of the ``previous`` step.
        prior: What predictions on the memory are trained to: the ``noise``, as written above, or the
            ``original`` model's predictions, at a third role of evaluations.
        batch_size: Images of surrogates in each step.
        earlier_share: Share of these that are of concepts erased before, if there are any.
        prior_batch_size: Images of the memory in each step.
        images: Images that are drawn of surrogates, and as many of those of concepts erased before.
        memory: Images that are drawn of neighbours of all concepts so far together.
        neighbours: How many of the retained phrases of each concept are in the memory; None takes all. A
            concept that retains nothing gives way to the empty prompt.
        sampler: How images are drawn.
    """

    paper: ClassVar[str] = "2503.13769"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    attention_scale: float = setting(least=0)
    prior_scale: float = setting(least=0)
    regularisation: float = setting(least=0)
    reference: str = setting(choices=REFERENCES)
    prior: str = setting(choices=PRIORS)
    earlier_share: float = setting(least=0, below=1)
    prior_batch_size: int = setting(least=1)
    images: int = setting(least=1)
    memory: int = setting(least=1)
    neighbours: int | None = setting(least=1)

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """What concerns earlier concepts where there are none, and choices within losses without weight."""
        found: dict[str, str] = {}
        if not concepts.earlier:
            found |= dict.fromkeys(["earlier_share", "reference"], "It counts in a sequence of concepts.")
        if not self.regularisation:
            found["reference"] = "It counts with regularisation above 0."
        if not self.prior_scale:
            found["prior"] = "It counts with prior_scale above 0."
        return found

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Trains the selected parameters."""
        return self.continued(model, concepts, context, Erasure())

    def continued(
        self, model: DiffusionModel, concepts: ConceptSet, context: Context, before: Erasure
    ) -> Erasure:
        """Trains the selected parameters on from where ``before`` left them; the original stays what it is.

        Raises:
            IncompatibleError: If ``before`` changed anything else.
        """
        self.check(model, concepts)
        trained = matching(model, self.parameters)
        if before.guard is not None or (others := sorted(before.weights.keys() - trained.keys())):
            what = others[0] if before.guard is None else "a guard"
            raise IncompatibleError(
                f"method: DUGE goes on from changes of method.parameters only, got {what}."
            )
        course = Course(model, self.lessons(concepts, context), self.sampler, context)

        with select(model, self.parameters) as selection:
            for name, weight in before.weights.items():
                selection.parameters[name].data.copy_(weight)
            reference = self.referred(selection)

            def loss(step: int) -> Composed:
                parts = self.losses(model, selection, course.batch(model, step, context))
                parts["regularisation"] = self.regularisation * distance(selection, reference)
                total = torch.stack(list(parts.values())).sum()
                gradients = gradients_of(total, list(selection.parameters.values()))
                values = {"loss": total.item(), **{name: part.item() for name, part in parts.items()}}
                return Composed(gradients, values)

            return finished(selection, fit(selection, loss, self.steps, self.optimizer, context))

    def lessons(self, concepts: ConceptSet, context: Context) -> list[Lesson]:
        """Surrogates, those of concepts erased before if there are any, and the memory, in this order."""
        random = context.generator("duge", "lessons")
        earlier = min(round(self.earlier_share * self.batch_size), self.batch_size - 1)
        earlier *= bool(concepts.earlier)
        found = [
            Lesson.of_surrogates(concepts.erase.values(), self.images, self.batch_size - earlier, random)
        ]
        if earlier:
            found.append(Lesson.of_surrogates(concepts.earlier.values(), self.images, earlier, random))
        known = {
            name: replace(concept, retain=concept.retain[: self.neighbours])
            for name, concept in {**concepts.earlier, **concepts.erase}.items()
        }
        sentences = ConceptSet(erase=known).retained_sentences() or [""]
        return [*found, Lesson.of_memory(sentences, self.memory, self.prior_batch_size, random)]

    def referred(self, selection: Selection) -> list[Tensor]:
        """Copies of the weights that the regularisation pulls to."""
        with selection.original() if self.reference == "original" else nullcontext():
            return [parameter.detach().clone() for parameter in selection.parameters.values()]

    def losses(self, model: DiffusionModel, selection: Selection, batch: Batch) -> dict[str, Tensor]:
        """The weighted losses on cross-attention and on the memory, from one forward pass of each model.

        Arguments:
            batch: Its last :attr:`prior_batch_size` rows are of the memory.
        """
        latents, timesteps = batch.noised.latents, batch.noised.timesteps
        count = len(latents) - self.prior_batch_size
        asked = slice(count if self.prior == "noise" else None)
        with selection.original(), outputs(model) as wanted:
            original = model.predict(latents[asked], timesteps[asked], batch.original[asked])
        with outputs(model) as found:
            predicted = model.predict(latents, timesteps, batch.own)
        layers = [
            (after[:count] - before[:count]).square().mean()
            for after, before in zip(found, wanted, strict=True)
        ]
        targets = batch.noised.target if self.prior == "noise" else original
        prior = (predicted[count:] - targets[count:]).square().mean()
        return {
            "attention": self.attention_scale * torch.stack(layers).mean(),
            "prior": self.prior_scale * prior,
        }


def distance(selection: Selection, reference: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of the selected weights from others, over all elements: shape :math:`()`."""
    parameters = list(selection.parameters.values())
    squares = [(own - other).square().sum() for own, other in zip(parameters, reference, strict=True)]
    return torch.stack(squares).sum() / sum(parameter.numel() for parameter in parameters)
