"""What methods that train weights have in common."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.methods.method import Method
from unlearn.methods.training.loop import Optimizer
from unlearn.models.sampling import Sampler
from unlearn.settings import setting


@dataclass(kw_only=True)
class Trained(Method):
    """A method that takes gradient steps on weights, with images or trajectories that a model draws.

    Attributes:
        parameters: What is trained: names of selections or patterns over parameter names.
        steps: Optimizer steps.
        batch_size: Images in each step.
        optimizer: How each step is taken.
        sampler: How what it trains on is drawn.
    """

    parameters: list[str]
    steps: int = setting(least=1)
    batch_size: int = setting(least=1)
    optimizer: Optimizer
    sampler: Sampler
