"""The one denoising loop of the package.

It gives, bit for bit, the latents and images of diffusers' ``StableDiffusionPipeline``. It is our own because erasure
needs it to stop early, guards need the step between prediction and update, and because the noise of an image comes
from its own generator: an image depends on its prompt, its seed and the settings, and on its batch only by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.errors import unknown
from unlearn.models.guards import Guard, Step
from unlearn.models.model import Conditioning, DiffusionModel

#: Names of the schedulers, and the diffusers classes that stand behind them.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
}

#: Pixels that are decoded at a time: four images of 512 x 512, whose activations take about 10 GB in float32.
PIXELS = 2**20


@dataclass(kw_only=True)
class Sampler:
    """How images are drawn.

    Attributes:
        scheduler: ``ddim``, ``euler``, ``pndm`` or ``dpm++``.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale; 1 turns it off.
        resolution: Height and width in pixels.
        batch_size: Images drawn at a time; changes images by rounding only.
    """

    scheduler: str
    steps: int
    guidance: float
    resolution: int
    batch_size: int

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            raise ValueError(f"scheduler: {unknown('scheduler', self.scheduler, SCHEDULERS)}")
        for key in ("steps", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, got {getattr(self, key)}")
        if not 0 <= self.guidance < float("inf"):
            raise ValueError(f"guidance: must be a number from 0 up, got {self.guidance}")
        if self.resolution < 8 or self.resolution % 8:
            raise ValueError(f"resolution: must be a multiple of 8 pixels, got {self.resolution}")


def initial_noise(model: DiffusionModel, seeds: Sequence[int | Generator], resolution: int) -> Tensor:
    """Standard normal latents, one per seed.

    They are drawn on the CPU in float32 and converted then, so that device and dtype do not change an image.

    Arguments:
        seeds: Integers, or CPU generators where a caller goes on drawing from one.
        resolution: Height and width of the images in pixels.

    Returns:
        Latents with shape :math:`(B, C, h, w)`, in the model's dtype and on its device.
    """
    shape = model.latent_shape(resolution)
    generators = [seed if isinstance(seed, Generator) else Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(model.device, model.dtype)


@torch.no_grad()
def sample(
    model: DiffusionModel,
    conditioning: Conditioning,
    unconditional: Conditioning,
    seeds: Sequence[int | Generator],
    sampler: Sampler,
    guard: Guard | None = None,
    until: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws one latent per seed, without gradients.

    Arguments:
        conditioning: The encoded prompts: one per seed, or one for all.
        unconditional: The encoded negative prompts (of ``""`` where there are none): one per seed, or one for all.
        seeds: Seed or CPU generator of each image's noise.
        guard: Changes each step's guided prediction, if given.
        until: Stop before this step, counted from 0, and return the noisy latents; by default all steps are run.

    Returns:
        Latents with shape :math:`(B, C, h, w)` as :meth:`DiffusionModel.predict` or, at the end,
        :meth:`DiffusionModel.decode` takes them, and the timestep that they stand at, with shape :math:`()`.
    """
    raise NotImplementedError


def draw(
    model: DiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampler: Sampler,
    guard: Guard | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Tensor]:
    """Draws one image per prompt and seed.

    Arguments:
        prompts: One per image; each distinct one is encoded once.
        seeds: One per image.
        guard: Changes the sampling process, if given.
        progress: Called after each batch with the number of its images.

    Yields:
        Images in :math:`[0, 1]`, float32, on the CPU, with shape :math:`(B, 3, H, W)` and at most
        ``sampler.batch_size`` of them.

    Raises:
        ConfigError: If a prompt has too many tokens, before anything is drawn.
    """
    raise NotImplementedError
