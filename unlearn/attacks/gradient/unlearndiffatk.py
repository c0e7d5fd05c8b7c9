"""UnlearnDiffAtk: the erased model as its own classifier of the concept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.gradient.gradient_attack import GradientAttack
from unlearn.attacks.gradient.token_searches import TokenDistributions


@dataclass(kw_only=True)
class UnlearnDiffAtk(GradientAttack):
    """Tokens before the prompt that make the erased model its own classifier of the concept.

    It departs from the authors' code in what its numbers should not depend on: noise is drawn anew in each
    step where the code repeats forty draws, images are drawn with seeds that the evaluation does not use, and
    only whole words are chosen, which survive being written.

    References:
        | To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy to Generate Unsafe
        | Images ... For Now (Zhang et al., 2023)
        | https://arxiv.org/abs/2310.11868
    """

    paper: ClassVar[str] = "2310.11868"
    search: TokenDistributions
