"""EraseDiff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import Composed, fit
from unlearn.methods.training.material.relabelling import Relabelling, losses
from unlearn.methods.training.surgery import Conflict
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class EraseDiff(Trained):
    r"""Retains first and relabels a concept's images as far as that allows.

    On images :math:`x` that the original model drew for a sentence :math:`c` with the concept, with :math:`a`
    the same sentence with its anchor, and on images :math:`x'` of what stays, a step follows
    :math:`h + \lambda g` with

    .. math::
        g = \nabla \| \epsilon_\theta(x_t, t, c) - \mathrm{sg}\, \epsilon_\theta(x_t, t, a) \|^2, \qquad
        h = \nabla \| \epsilon_\theta(x'_{t'}, t', c') - \epsilon' \|^2

    and a constant :math:`\lambda`, as in all of the released commands, or
    :math:`\lambda = \max(0, \eta - \cos(g, h))`: the more the two agree, the less is done for forgetting.

    The paper puts this as a bilevel problem, and the released code takes a pass over the concept's images
    beforehand, whose mean loss is then subtracted. It is a constant, and the weights are put back, so that
    all that is left of that pass are the moments of the optimiser; with several such passes it also undoes
    the steps in between. It is left out here. The released code draws the first batch of a new shuffle in
    every step, where here passes are whole, and relabels nudity to "a photo of a pokemon", where here it is
    the concept's anchor. Images are the model's own.

    References:
        | EraseDiff: Erasing Undesirable Influence in Diffusion Models (Wu et al., 2024)
        | https://arxiv.org/abs/2401.05779

    Attributes:
        weight: :math:`\lambda`; None for the one that depends on both gradients.
        eta: :math:`\eta`, of that.
        images: Images of the concept, and as many of what stays.
        batch_size: Images of either kind in each step.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2401.05779"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    weight: float | None = setting(above=0)
    eta: float = setting(above=0)
    images: int = setting(least=1)

    def idle(self, concepts: ConceptSet) -> dict[str, str]:  # noqa: ARG002
        """:math:`\\eta` beside a constant weight."""
        return {} if self.weight is None else {"eta": "It counts with weight=null."}

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws the images and trains the selected parameters."""
        self.check(model, concepts)
        matching(model, self.parameters)  # complains before anything is drawn
        images = Relabelling.draw(model, concepts, self.images, self.sampler, context)
        with select(model, self.parameters) as selection:

            def composed(step: int) -> Composed:
                return self.composed(model, selection, images, step, context)

            return finished(selection, fit(selection, composed, self.steps, self.optimizer, context))

    def composed(
        self, model: DiffusionModel, selection: Selection, images: Relabelling, step: int, context: Context
    ) -> Composed:
        """What one step follows."""
        random = context.generator("erasediff", "step", step)
        tasks = images.tasks(model, self.batch_size, step, random, context)
        parameters = list(selection.parameters.values())
        if self.weight is not None:
            forgetting, retaining = losses(model, *tasks)
            gradients = gradients_of(retaining + self.weight * forgetting, parameters)
            values = {"forgetting": forgetting.item(), "retaining": retaining.item(), "weight": self.weight}
        else:
            # In graphs of their own, so that neither way back runs through the other's rows.
            values, found = {}, []
            for name, task in zip(("forgetting", "retaining"), tasks, strict=True):
                (loss,) = losses(model, task)
                values[name] = loss.item()
                found.append(gradients_of(loss, parameters))
            values["weight"] = max(0.0, self.eta - Conflict.between(*found).cosine)
            gradients = [h + values["weight"] * g for g, h in zip(*found, strict=True)]
        values["loss"] = values["retaining"] + values["weight"] * values["forgetting"]
        return Composed(gradients, values)
