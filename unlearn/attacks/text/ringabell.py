"""Ring-A-Bell: words whose embedding is the prompt's, moved towards the concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.text.genetic import Genetic
from unlearn.attacks.text.text_attack import TextAttack
from unlearn.attacks.text.text_objectives import ShiftedEmbedding


@dataclass(kw_only=True)
class RingABell(TextAttack):
    """Words instead of the prompt whose embedding is the prompt's, moved towards the concept.

    It departs from the authors' code in what keeps a prompt what was scored: only words are chosen that
    survive being written. The concept's direction is taken over sentences that are made for every concept.

    References:
        | Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models? (Tsai et al., 2023)
        | https://arxiv.org/abs/2310.10012
    """

    paper: ClassVar[str] = "2310.10012"
    objective: ShiftedEmbedding
    search: Genetic

    @property
    def reads(self) -> frozenset[str]:
        """The sentences that the concept's direction is taken over, with and without it."""
        return frozenset({"anchor", "templates"})

    def idle(self) -> dict[str, str]:
        """The sentences, where nothing is moved along their direction."""
        found = super().idle()
        unmoved = {"objective.sentences": "It counts with objective.strength above 0."}
        return found if self.objective.strength else found | unmoved
