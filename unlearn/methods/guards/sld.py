"""Safe Latent Diffusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.guards.wording import WordedMethod
from unlearn.methods.method import Context
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard, Step
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.settings import Settings, setting


@dataclass(kw_only=True)
class Push(Settings):
    r"""How hard, where and when a prediction is pushed away from the concept.

    Attributes:
        warmup: :math:`\delta`, how many of the first steps are left alone.
        scale: :math:`s_S`, above 1.
        threshold: :math:`\lambda`: there is a push only where :math:`\epsilon_c - \epsilon_S` is below it.
        momentum_scale: :math:`s_m`, from 0 to 1, the weight of what earlier steps pushed.
        momentum_decay: :math:`\beta_m`, from 0 up and below 1, what is left of that after a step.
    """

    warmup: int = setting(least=0, unit="denoising steps")
    scale: float = setting(above=1)
    threshold: float = setting(infinite=True)
    momentum_scale: float = setting(least=0, most=1)
    momentum_decay: float = setting(least=0, below=1)

    def apply(
        self, conditional: Tensor, unconditional: Tensor, concept: Tensor, momentum: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""One step of the rule; only differences of the three predictions of noise count.

        Arguments:
            conditional: :math:`\epsilon_c`, of any shape.
            unconditional: :math:`\epsilon_\varnothing`, of the same shape.
            concept: :math:`\epsilon_S`, of the same shape.
            momentum: :math:`\nu`, of the same shape; 0 at the first step.

        Returns:
            The push :math:`\gamma` and the next :math:`\nu`.
        """
        distance = conditional - concept
        weight = torch.where(distance < self.threshold, (distance.abs() * self.scale).clamp(max=1), 0)
        push = weight * (concept - unconditional) + self.momentum_scale * momentum
        return push, self.momentum_decay * momentum + (1 - self.momentum_decay) * push


@dataclass(kw_only=True)
class SLD(Push, WordedMethod):
    r"""Pushes every step's prediction away from the one under a safety concept.

    With :math:`\epsilon_\varnothing, \epsilon_c, \epsilon_S` the predictions without a prompt, with the
    prompt and with the safety concept, all in one forward pass, step :math:`i` goes along

    .. math::
        \hat\epsilon &= \epsilon_\varnothing
            + s \, [ \epsilon_c - \epsilon_\varnothing - 1_{i \ge \delta} \, \gamma ], \\
        \gamma &= \mu \odot (\epsilon_S - \epsilon_\varnothing) + s_m \nu, \qquad
        \mu = \begin{cases}
            \min(1, s_S |\epsilon_c - \epsilon_S|) & \epsilon_c - \epsilon_S < \lambda \\ 0 & \text{else}
        \end{cases} \\
        \nu &\leftarrow \beta_m \nu + (1 - \beta_m) \gamma .

    The momentum :math:`\nu` builds up during the warm-up, too. This is the released code, and diffusers'
    ``StableDiffusionPipelineSafe``; where the paper prints the maximum of 1 and the scaled distance, both
    take the minimum. The released text lists all that is inappropriate; here it is the concept alone, as in
    the comparisons of later papers. For v-prediction the rule is applied to the noise that it stands for.
    Without momentum the warm-up needs no prediction for the safety concept, and none is made.

    References:
        | Safe Latent Diffusion: Mitigating Inappropriate Degeneration in Diffusion Models (Schramowski et
          al., 2023)
        | https://arxiv.org/abs/2211.05105

    Attributes:
        wording: What the safety concept names.
    """

    paper: ClassVar[str] = "2211.05105"
    differentiable: ClassVar[bool] = True

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Words for other kinds, and how a momentum without weight decays."""
        found = super().idle(concepts)
        return (
            found
            if self.momentum_scale
            else found | {"momentum_decay": "It counts with momentum_scale above 0."}
        )

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Words the safety concept."""
        del context
        self.check(model, concepts)
        text = self.wording.prompt(model, concepts)
        settings = {part.name: getattr(self, part.name) for part in fields(Push)}
        return Erasure(guard=SLDGuard(text=text, **settings))


@dataclass(kw_only=True)
class SLDGuard(Push, Guard, name="sld"):
    """Predicts for the safety concept too, and pushes away from it.

    Attributes:
        text: The safety concept.
    """

    differentiable: ClassVar[bool] = True

    text: str
    _momentum: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def extra_prompts(self) -> Sequence[str]:
        """The safety concept."""
        return (self.text,)

    def branches(
        self, index: int, prompts: Sequence[str], parts: Sequence[Conditioning]
    ) -> Sequence[Conditioning]:
        """All three, but without the safety concept where nothing would come of it."""
        del prompts
        return parts[:2] if index < self.warmup and self.momentum_scale == 0 else parts

    def guide(self, step: Step) -> Tensor:
        """The guided prediction, in the dtype of the predictions; the arithmetic is float32."""
        if not step.extra:
            return super().guide(step)
        conditional, unconditional, concept = (
            prediction.float() for prediction in (step.conditional, step.unconditional, step.extra[0])
        )
        # One momentum for each image of the batch, whose first step this may be.
        momentum = torch.zeros_like(concept) if step.index == 0 or self._momentum is None else self._momentum
        alpha = step.noise_scale.float()
        push, self._momentum = self.apply(
            alpha * conditional, alpha * unconditional, alpha * concept, momentum
        )
        if step.index < self.warmup:
            return super().guide(step)
        change = conditional - unconditional - push / alpha.clamp_min(1e-8)
        return (unconditional + step.scale * change).to(step.conditional.dtype)
