"""The one denoising loop of the package.

It gives, bit for bit, the latents and images of diffusers' ``StableDiffusionPipeline``. It is our own because
erasure needs it to stop early, guards need the step between prediction and update, and because the noise of
an image comes from its own generator: an image depends on its prompt, its seed and the settings, and on its
batch only by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from unlearn.models.guards import Guard, Step
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.settings import Settings, setting
from unlearn.system import stopping

#: Names of the schedulers, and the diffusers classes that stand behind them.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
}

#: Pixels that are decoded at a time: four images of 512 x 512, whose activations take about 10 GB in float32.
PIXELS = 2**20
#: Prompts that are encoded at a time.
TEXTS = 64


@dataclass(kw_only=True)
class Sampler(Settings):
    """How images are drawn.

    Attributes:
        scheduler: ``ddim``, ``euler``, ``pndm`` or ``dpm++``.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale; 1 turns it off.
        resolution: Height and width in pixels.
        batch_size: Images drawn at a time; changes images by rounding only.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    scheduler: str = setting(choices=SCHEDULERS)
    steps: int = setting(least=1, unit="denoising steps")
    guidance: float = setting(least=0)
    resolution: int = setting(least=8, multiple=8, unit="pixels")
    batch_size: int = setting(least=1, unit="images")

    @property
    def forwards(self) -> int:
        """Denoiser forwards, counted in samples, of one image without a guard."""
        return self.steps * (1 if self.guidance == 1 else 2)


@dataclass(frozen=True)
class Start:
    """Images that drawing starts from instead of pure noise (SDEdit).

    References:
        | SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations
        | (Meng et al., 2021)
        | https://arxiv.org/abs/2108.01073

    Attributes:
        latents: Clean latents, with shape :math:`(B, C, h, w)`.
        strength: Share of the denoising steps that are run, above 0: with 1, nearly nothing of the image is
            left to start from.
    """

    latents: Tensor
    strength: float

    def __getitem__(self, rows: slice) -> Start:
        """The given images."""
        return Start(self.latents[rows], self.strength)

    def skipped(self, steps: int) -> int:
        """How many of the first steps are left out.

        Raises:
            ValueError: If no step would be left.
        """
        left = min(int(steps * self.strength), steps)
        if left < 1:
            raise ValueError(f"strength: must leave at least one of {steps} steps, got {self.strength}")
        return steps - left


@dataclass(frozen=True)
class Place:
    """A step of the loop.

    Attributes:
        index: Its number, from 0.
        total: Steps of the whole trajectory.
        timestep: Of the latents, with shape :math:`()`.
    """

    index: int
    total: int
    timestep: Tensor


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
    prompts: Sequence[str] = (),
    start: Start | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws one latent per seed, without gradients.

    Arguments:
        conditioning: The encoded prompts: one per seed, or one for all.
        unconditional: The encoded negative prompts (of ``""`` where there are none): one per seed, or one for
            all.
        seeds: Seed or CPU generator of each image's noise.
        guard: Changes what each step predicts, if given.
        until: Stop before this step, counted from 0, and return the noisy latents; by default all steps are
            run.
        prompts: What ``conditioning`` encodes, one per seed, for guards that look at prompts.
        start: Images to start from, one per seed; by default pure noise. Guards count the steps that are run.

    Returns:
        Latents with shape :math:`(B, C, h, w)` as :meth:`DiffusionModel.predict` or, at the end,
        :meth:`DiffusionModel.decode` takes them, and the timestep that they stand at, with shape :math:`()`.

    Raises:
        Stopped: If a signal has asked to stop.
    """
    if until is not None and until < 0:
        raise ValueError(f"until: must be 0 or above, got {until}")
    count = len(seeds)
    parts = [_rows(conditioning, count)]
    # A guidance scale of 1 is the conditional prediction: the unconditional half would be computed for
    # nothing.
    guided = guard is not None or sampler.guidance != 1
    guard = guard or Guard()
    if guided:
        extra = (_rows(model.encode([prompt]), count) for prompt in guard.extra_prompts())
        parts = [_rows(unconditional, count), *parts, *extra]

    scheduler = model.scheduler(sampler.scheduler, sampler.steps)
    timesteps = scheduler.timesteps
    latents = initial_noise(model, seeds, sampler.resolution)
    if start is None:
        latents = latents * scheduler.init_noise_sigma
    else:
        first = start.skipped(sampler.steps) * scheduler.order
        timesteps = timesteps[first:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)
        latents = scheduler.add_noise(start.latents.to(latents), latents, timesteps[:1].repeat(count))
    for index, t in enumerate(timesteps[:until]):
        stopping.check()  # within a training step, which no signal breaks off elsewhere
        scaled = scheduler.scale_model_input(latents, t)
        if guided:
            place = Place(index, len(timesteps), t)
            prediction = guided_prediction(model, scaled, place, parts, sampler.guidance, guard, prompts)
        else:
            prediction = model.predict(scaled, t, parts[0])
        latents = scheduler.step(prediction, t, latents, return_dict=False)[0]

    if until is None or until >= len(timesteps):
        return latents, torch.zeros((), dtype=torch.long, device=latents.device)
    return scheduler.scale_model_input(latents, timesteps[until]), timesteps[until]


def guided_prediction(
    model: DiffusionModel,
    latents: Tensor,
    place: Place,
    parts: Sequence[Conditioning],
    scale: float,
    guard: Guard,
    prompts: Sequence[str] = (),
) -> Tensor:
    """What one step of the loop predicts; gradients flow as far as the guard lets them.

    Arguments:
        latents: With shape :math:`(B, C, h, w)`, as the network sees them.
        place: Which step.
        parts: The negative prompts, the prompts and the guard's extra prompts, :math:`B` rows each.
        scale: Of classifier-free guidance.
        prompts: What the prompts say.
    """
    branches = guard.branches(place.index, prompts, parts)
    prediction = model.predict(
        latents.repeat(len(branches), 1, 1, 1), place.timestep, Conditioning.cat(branches)
    )
    empty, *rest = prediction.chunk(len(branches))
    prompted, *others = rest or [empty]
    return guard.guide(
        Step(
            index=place.index,
            total=place.total,
            timestep=place.timestep,
            latents=latents,
            conditional=prompted,
            unconditional=empty,
            extra=tuple(others),
            scale=scale,
            noise_scale=model.noise_scale(place.timestep),
        )
    )


def _rows(conditioning: Conditioning, count: int) -> Conditioning:
    return conditioning.repeat(count) if len(conditioning) == 1 else conditioning


def draw(
    model: DiffusionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    sampler: Sampler,
    guard: Guard | None = None,
    progress: Callable[[int], object] | None = None,
    start: Start | None = None,
) -> Iterator[Tensor]:
    """Draws one image per prompt and seed.

    Arguments:
        prompts: One per image; each distinct one is encoded once.
        seeds: One per image.
        guard: Changes the sampling process, if given.
        progress: Called after each batch with the number of its images.
        start: Images to start from, one per image, if given.

    Yields:
        Images in :math:`[0, 1]`, float32, on the CPU, with shape :math:`(B, 3, H, W)` and at most
        ``sampler.batch_size`` of them.

    Raises:
        ConfigError: If a prompt has too many tokens, before anything is drawn.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"seeds: needs one per prompt, got {len(seeds)} for {len(prompts)} prompts")
    if not prompts:
        return
    hooks = guard or Guard()
    asked, negative = hooks.prompts(prompts, [""] * len(prompts))
    shown = list(dict.fromkeys(asked))
    distinct = list(dict.fromkeys([*shown, *negative]))
    row = {prompt: i for i, prompt in enumerate(distinct)}
    with hooks.attached(model.parts), torch.no_grad():
        encoded = _encode(model, distinct)
        hooks = hooks.prepared(model, shown, encoded[: len(shown)])
    guard = None if guard is None else hooks
    for first in range(0, len(asked), sampler.batch_size):
        batch = slice(first, first + sampler.batch_size)
        conditioning = encoded[[row[prompt] for prompt in asked[batch]]]
        unconditional = encoded[[row[prompt] for prompt in negative[batch]]]
        # The consumer's code runs between two batches: neither the hooks nor a gradient mode may be on then.
        with hooks.attached(model.parts), torch.no_grad():
            latents, _ = sample(
                model,
                conditioning,
                unconditional,
                seeds[batch],
                sampler,
                guard,
                prompts=asked[batch],
                start=None if start is None else start[batch],
            )
            images = hooks.screen(_decode(model, latents, sampler.resolution)).float().cpu()
        yield images
        if progress is not None:
            progress(len(images))


def _encode(model: DiffusionModel, prompts: Sequence[str]) -> Conditioning:
    model.tokenize(
        prompts
    )  # complains about all prompts that are too long, not only those of the first chunk
    return Conditioning.cat([model.encode(prompts[i : i + TEXTS]) for i in range(0, len(prompts), TEXTS)])


def _decode(model: DiffusionModel, latents: Tensor, resolution: int) -> Tensor:
    return torch.cat([model.decode(chunk) for chunk in torch.split(latents, max(1, PIXELS // resolution**2))])
