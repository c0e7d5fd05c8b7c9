"""MMA-Diffusion: words that mean the same to the text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.text.coordinate_gradient import CoordinateGradient
from unlearn.attacks.text.text_attack import TextAttack
from unlearn.attacks.text.text_objectives import EndCosine


@dataclass(kw_only=True)
class MMADiffusion(TextAttack):
    """Words instead of the prompt that mean the same to the text encoder; with ``banned``, without a word of
    the concept, which a filter of prompts would know.

    The text part of the attack. The authors begin with random letters; here the start is random. What their
    tokens' text is read as is not what was scored where other tokens are read in it; here it is.

    References:
        | MMA-Diffusion: MultiModal Attack on Diffusion Models (Yang et al., 2023)
        | https://arxiv.org/abs/2311.17516
    """

    paper: ClassVar[str] = "2311.17516"
    objective: EndCosine
    search: CoordinateGradient

    @property
    def reads(self) -> frozenset[str]:
        """The anchor, whose words are not banned."""
        return frozenset({"anchor"} if self.banned else ())
