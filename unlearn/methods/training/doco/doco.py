"""Domain correction: a concept's predictions made indistinguishable from its anchor's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unlearn.concepts.concept import PROMPT_TEMPLATES, ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.method import Context, finished, of_other_kinds
from unlearn.methods.training.doco.discriminator import Opponent, unrecognised
from unlearn.methods.training.doco.predicted import Predicted
from unlearn.methods.training.loop import Composed, fit
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised
from unlearn.methods.training.surgery import RULES, clipped, protected
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.start_token import start_token_detached
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection, matching, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class DoCo(Trained):
    r"""Plays the denoiser against a discriminator that tells the concept from its anchor.

    Clean latents that the original :math:`\phi` draws for a sentence with the anchor :math:`a` are noised.
    With :math:`\hat x_0` the clean latents that a prediction amounts to, and the concept :math:`c` in the
    anchor's place,

    .. math::
        r = \hat x_0(\epsilon_\phi(x_t, t, a)), \qquad f = \hat x_0(\epsilon_\theta(x_t, t, c)) ,

    a discriminator :math:`D` learns to tell :math:`r` (label 0) from :math:`f` (label 1) by binary
    cross-entropy over patches, and the denoiser learns to have its :math:`f` taken for an :math:`r`. In the
    first ``warmup`` steps only :math:`D` learns: to tell what one network makes of two prompts. Of the
    gradient :math:`g` of the denoiser's loss, what works against that of a retaining loss,
    :math:`h = \nabla \| \epsilon_\theta(x'_t, t', a') - \epsilon' \|^2`, is taken out by
    :func:`~unlearn.methods.training.surgery.protected`, each of the trained matrices for itself; both are
    clipped first. The start token teaches keys and values nothing.

    **The release and we.** The paper has the predicted noise judged, as far as we know it; the release, and
    we, the clean latents. These divide by the signal's share of :math:`x_t`, so that high noise weighs most.
    The release scales the projection wrongly, follows only the adversarial gradient although :math:`h` is at
    hand, and leaves that gradient in the discriminator's, so that the logits of :math:`f` are pulled to 0
    (:math:`2 \sigma - 1` in place of :math:`\sigma - 1`); ``rule: released`` and ``tainted: true`` do the
    same. It finds captions of the anchor with a language model or an image search; here the concept's
    sentences are used. Its crops and flips of images are left out: it ignores the mask that crops need, and
    latents cannot be flipped exactly.

    Each image is noised ``draws`` times, and what :math:`\phi` predicts on these for either sentence is taken
    beforehand, so that the first steps take no prediction at all and the others two an image. The rows of the
    concept and those retained have graphs of their own: no backward pass runs through rows that have no part
    in its loss. The release draws new noise in every step.

    References:
        | Unlearning Concepts in Diffusion Model via Concept Domain Correction and Concept Preserving Gradient
          (Wu et al., 2024)
        | https://arxiv.org/abs/2405.15304

    Attributes:
        images: Images of anchors that the original model draws beforehand.
        draws: How many times each is noised for the adversarial loss.
        steps: Steps of the discriminator; the denoiser takes ``steps - warmup`` of them too.
        warmup: Steps in which only the discriminator learns.
        batch_size: Latents of each kind in each step.
        share: :math:`\lambda`, how much of a conflict is taken out.
        rule: How it is scaled: ``exact`` or ``released``.
        retain_weight: Weight of :math:`h` itself in each step.
        clip_norm: Largest norm of either gradient before that; None for no limit.
        tainted: Whether the denoiser's loss teaches the discriminator too. This is a mistake of the release.
        discriminator_lr: Learning rate of the discriminator by kind of concept. Of several, the smallest
            counts.
        optimizer: How the denoiser's steps are taken.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2405.15304"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    images: int = setting(least=1)
    draws: int = setting(least=1)
    warmup: int = setting(least=0, unit="optimizer steps")
    share: float = setting(least=0, most=1)
    rule: str = setting(choices=RULES)
    retain_weight: float = setting(least=0)
    clip_norm: float | None = setting(above=0)
    tainted: bool
    discriminator_lr: dict[str, float] = setting(keys=PROMPT_TEMPLATES, kind="kind of concept", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warmup < self.steps:
            raise ValueError(f"warmup: must be from 0 to below the {self.steps} steps, got {self.warmup}")

    @property
    def reads(self) -> frozenset[str]:
        """The kind in place of what is retained."""
        return frozenset({"anchor", "templates", "kind"})

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Other kinds, and how conflicts are scaled where none is taken out."""
        found = of_other_kinds("discriminator_lr", self.discriminator_lr, concepts)
        return found if self.share else found | {"rule": "It counts with share above 0."}

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Trains a discriminator, then the selected parameters against it."""
        self.check(model, concepts)
        kinds = {concept.kind for concept in concepts.erase.values()}
        if missing := sorted(kinds - self.discriminator_lr.keys()):
            raise ConfigError(f"method.discriminator_lr: needs a value for {', '.join(missing)}.")
        matching(model, self.parameters)  # complains before anything is drawn
        anchors = Anchors.draw(model, concepts, self.images, self.sampler, context)
        count = min(self.draws * self.images, self.steps * self.batch_size)
        predicted = Predicted.draw(model, anchors, count, self.sampler.batch_size, context)
        lr = min(self.discriminator_lr[kind] for kind in kinds)
        opponent = Opponent.begin(anchors.images, lr, model.device, context)
        with select(model, self.parameters) as selection, start_token_detached(model):

            def play(step: int) -> Composed:
                return self.play(model, selection, predicted, opponent, step, context)

            history = fit(selection, play, self.steps, self.optimizer, context, opponent.companions)
            return finished(selection, history)

    def play(
        self,
        model: DiffusionModel,
        selection: Selection,
        predicted: Predicted,
        opponent: Opponent,
        step: int,
        context: Context,
    ) -> Composed:
        """One step of both players: teaches the discriminator, and says what the denoiser is to follow."""
        batch = predicted.batch(model, self.batch_size, step, context)
        x, t = batch.latents, batch.timesteps
        if step < self.warmup:
            trained = batch.mistaken
            gradients: list[Tensor | None] = [None] * len(selection.parameters)
            values: dict[str, float] = {}
        else:
            trained = model.predict(x, t, batch.erased)
            loss = unrecognised(opponent.network(model.denoised(x, t, trained)))
            others = predicted.anchors.batch(self.batch_size, step, context)
            kept = Noised.draw(model, others.clean, context.generator("doco", "step", step))
            gradients, values = self.gradients(model, selection, loss, kept, others.anchored)
        real, fake = model.denoised(x, t, batch.anchored), model.denoised(x, t, trained.detach())
        return Composed(gradients, opponent.learn(real, fake, self.tainted and step >= self.warmup) | values)

    def gradients(
        self,
        model: DiffusionModel,
        selection: Selection,
        loss: Tensor,
        kept: Noised,
        anchored: Conditioning,
    ) -> tuple[list[Tensor | None], dict[str, float]]:
        """What the denoiser is to follow, for each trained parameter, and what to log.

        Arguments:
            loss: Its loss against the discriminator, with shape :math:`()`.
            kept: Noised images of anchors.
            anchored: Their sentences.
        """
        parameters = list(selection.parameters.values())
        # Gradients are asked for by name, so that none is left in the discriminator. The first graph is gone
        # before the second begins.
        g: Sequence[Tensor] = gradients_of(loss, parameters)
        again = (model.predict(kept.latents, kept.timesteps, anchored) - kept.target).square().mean()
        h: Sequence[Tensor] = gradients_of(again, parameters)
        if self.clip_norm is not None:
            g, h = clipped(g, self.clip_norm), clipped(h, self.clip_norm)
        followed, against = protected(g, h, self.share, self.rule)
        if self.retain_weight:
            followed = [own + self.retain_weight * other for own, other in zip(followed, h, strict=True)]
        return [*followed], {"preservation": again.item(), "conflicts": against.item()}
