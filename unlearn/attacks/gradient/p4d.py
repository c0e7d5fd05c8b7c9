"""Prompting4Debugging: the erased model led to what the original predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.gradient.gradient_attack import GradientAttack
from unlearn.attacks.gradient.token_searches import NearestTokens


@dataclass(kw_only=True)
class P4D(GradientAttack):
    """Tokens under which the erased model predicts what the original does for the plain prompt.

    The authors choose among looks by the likeness of images; here the detector chooses, as for all attacks.
    Theirs ask the original model in every step, on one image, with a context that is padded otherwise than
    the prompt that is drawn; here its predictions are taken once.

    References:
        | Prompting4Debugging: Red-Teaming Text-to-Image Diffusion Models by Finding Problematic Prompts
        | (Chin et al., 2023)
        | https://arxiv.org/abs/2309.06135
    """

    paper: ClassVar[str] = "2309.06135"
    search: NearestTokens
