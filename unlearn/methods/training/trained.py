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

    def _check_warmup(self, warmup: int) -> None:
        """Refuses a warm-up that never ends."""
        if warmup >= self.steps:
            raise ValueError(f"warmup: must be from 0 to below the {self.steps} steps, got {warmup}")

    def _check_states(self, states: int) -> None:
        """Refuses more latents of a trajectory than it has steps."""
        if states > self.sampler.steps:
            raise ValueError(f"states: a trajectory has {self.sampler.steps} steps, got {states}")
