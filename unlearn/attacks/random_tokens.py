"""Random words before the prompt: the control that every attack must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.prompt_attack import PromptAttack
from unlearn.attacks.searches import RandomSearch
from unlearn.attacks.spaces import AddedTokens


@dataclass(kw_only=True)
class RandomTokens(PromptAttack):
    """Random words added to the prompt, the best of a few by the detector: the control for real attacks.

    An erased concept that shows once in a hundred images comes back in 40 % of attacks that may try 51 of
    them. Only what an attack achieves beyond this control, at the same number of images, is due to the
    attack.

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        space: Which tokens are added.
        objective: The detector's score.
        search: How many candidates are tried.
    """

    control: ClassVar[bool] = True

    space: AddedTokens
    objective: DetectorScore
    search: RandomSearch
