"""The concept as negative prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.guards.wording import WordedMethod
from unlearn.methods.method import Context
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.model import DiffusionModel


@dataclass(kw_only=True)
class NegativePrompt(WordedMethod):
    r"""Guides away from the concept instead of away from the empty prompt.

    .. math:: \hat\epsilon = \epsilon_n + s \, (\epsilon_c - \epsilon_n)

    with :math:`\epsilon_n` the prediction under the negative prompt. No paper's method, but what every
    sampling-time method is to be compared with: it costs nothing, and the published figures of some contain
    it.

    Attributes:
        wording: What the negative prompt names.
    """

    paper: ClassVar[str] = ""
    differentiable: ClassVar[bool] = True

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Words the negative prompt."""
        del context
        self.check(model, concepts)
        text = self.wording.prompt(model, concepts)
        return Erasure(guard=NegativePromptGuard(text=text))


@dataclass(kw_only=True)
class NegativePromptGuard(Guard, name="negative_prompt"):
    """Puts a text where the empty prompt would be.

    Attributes:
        text: The negative prompt.
    """

    differentiable: ClassVar[bool] = True

    text: str

    def prompts(self, prompts: Sequence[str], negative: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """The same negative prompt for all images."""
        return prompts, [self.text] * len(negative)
