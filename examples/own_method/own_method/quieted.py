"""Less guidance towards prompts that name the concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from own_method.scaling import scaled
from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, Method
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard, Step
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.settings import setting


@dataclass(kw_only=True)
class Quieted(Method):
    r"""Draws prompts that name the concept with guidance :math:`k s` instead of :math:`s`: it shows less.

    Attributes:
        scale: :math:`k`, from 0 (the prompt is not heard) to 1 (nothing changes; not allowed).
    """

    paper: ClassVar[str] = ""
    continues: ClassVar[bool] = False
    random: ClassVar[bool] = False

    scale: float = setting(least=0, below=1)

    @property
    def reads(self) -> frozenset[str]:
        """Nothing but the phrases."""
        return frozenset()

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """A guard; no weight changes."""
        del context
        self.check(model, concepts)
        return Erasure(guard=QuietedGuard(phrases=concepts.phrases, scale=self.scale))


@dataclass(kw_only=True)
class QuietedGuard(Guard, name="quieted"):
    """Guides images of prompts with one of the phrases by a part of the scale.

    Attributes:
        phrases: What it listens for, in small letters or not.
        scale: The part, from 0 to 1.
    """

    phrases: list[str]
    scale: float
    named: list[bool] = field(init=False, default_factory=list)

    def branches(
        self, index: int, prompts: Sequence[str], parts: Sequence[Conditioning]
    ) -> Sequence[Conditioning]:
        """Finds out which of the prompts name the concept; what is predicted stays."""
        del index
        self.named = [any(phrase.lower() in prompt.lower() for phrase in self.phrases) for prompt in prompts]
        return parts

    def guide(self, step: Step) -> Tensor:
        """The prediction, under less guidance where the concept is named."""
        scales = torch.tensor([step.scale * (self.scale if named else 1.0) for named in self.named])
        return scaled(step.conditional, step.unconditional, scales[:, None, None, None].to(step.latents))
