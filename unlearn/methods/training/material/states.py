"""Noisy latents from the middle of trajectories, with what the model predicted on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

from unlearn.errors import ArtifactError
from unlearn.methods.method import Context, Meter
from unlearn.models.guards import Guard, Step
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler, sample
from unlearn.system.writing import whole


@dataclass(frozen=True)
class States:
    """Noisy latents that the model drew, with what it predicts on them.

    Attributes:
        latents: :math:`x_t`, with shape :math:`(N, C, h, w)`.
        timesteps: :math:`t`, with shape :math:`(N,)`.
        prompts: Which prompt each is drawn for, with shape :math:`(N,)`.
        conditional: :math:`\\epsilon_\\phi(x_t, t, c)`, with shape :math:`(N, C, h, w)`.
        unconditional: :math:`\\epsilon_\\phi(x_t, t, \\varnothing)`, with shape :math:`(N, C, h, w)`.
    """

    latents: Tensor
    timesteps: Tensor
    prompts: Tensor
    conditional: Tensor
    unconditional: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: Tensor) -> States:
        return States(*(getattr(self, part.name)[rows] for part in fields(self)))

    def to(self, device: torch.device) -> States:
        """The same on a device."""
        return States(*(getattr(self, part.name).to(device) for part in fields(self)))

    @staticmethod
    def cat(parts: Sequence[States]) -> States:
        """The states of all ``parts``, one after another."""
        return States(*(torch.cat([getattr(part, name.name) for part in parts]) for name in fields(States)))


@torch.no_grad()
def draw(
    model: DiffusionModel,
    prompts: Conditioning,
    which: Sequence[int],
    stops: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampler: Sampler,
) -> States:
    """Draws trajectories and takes latents out of them.

    Arguments:
        prompts: The empty prompt, and those to draw for.
        which: Number of each trajectory's prompt, from 0; -1, for all of them or none, is the empty one. That
            has no second branch to be guided by.
        stops: Steps of each trajectory at which latents are taken.
        seeds: Seed of each trajectory's noise.
        sampler: How they are drawn.

    Returns:
        Latents by trajectory and step, on the CPU.
    """
    parts: list[States] = []
    for start in range(0, len(seeds), sampler.batch_size):
        chunk = slice(start, start + sampler.batch_size)
        numbers = torch.tensor(which[chunk])
        recorder = _Recorder(stops[chunk], numbers)
        until = 1 + max(max(steps) for steps in stops[chunk])
        conditioning = prompts[(numbers + 1).tolist()]
        sample(model, conditioning, prompts[:1], seeds[chunk], sampler, recorder, until)
        parts.append(recorder.states())
    return States.cat(parts)


def scattered(
    model: DiffusionModel,
    prompts: Conditioning,
    count: int,
    states: int,
    sampler: Sampler,
    context: Context,
    *scope: str | int,
) -> States:
    """Latents from random steps of trajectories, in random order.

    Arguments:
        prompts: The empty prompt, and those to draw for in turn.
        count: How many latents.
        states: How many are taken from each trajectory, at different steps.
        context: Where random numbers come from.
        scope: Names this use of randomness.

    Returns:
        With :attr:`States.prompts` counted from the first prompt that is not the empty one; on the CPU.
    """
    random = context.generator(*scope, "states")
    trajectories = range(-(-count // states))
    drawn = draw(
        model,
        prompts,
        which=[i % (len(prompts) - 1) for i in trajectories],
        stops=[torch.randperm(sampler.steps, generator=random)[:states].tolist() for _ in trajectories],
        seeds=[context.derive_seed(*scope, "noise", i) for i in trajectories],
        sampler=sampler,
    )
    return drawn[torch.randperm(len(drawn), generator=random)[:count]]


@dataclass
class _Recorder(Guard):
    """Takes latents and predictions out of the denoising loop, and changes nothing.

    Attributes:
        stops: Steps of each trajectory at which latents are taken.
        which: Number of each trajectory's prompt, with shape :math:`(B,)`; negative for the empty one.
    """

    stops: Sequence[Sequence[int]]
    which: Tensor
    taken: list[tuple[int, States]] = field(default_factory=list)

    def branches(
        self, index: int, prompts: Sequence[str], parts: Sequence[Conditioning]
    ) -> Sequence[Conditioning]:
        del index, prompts
        return parts[:1] if bool((self.which < 0).all()) else parts

    def guide(self, step: Step) -> Tensor:
        for row in (i for i, stops in enumerate(self.stops) if step.index in stops):
            state = States(
                latents=step.latents[row : row + 1].cpu(),
                timesteps=step.timestep.reshape(1).cpu(),
                prompts=self.which[row : row + 1],
                conditional=step.conditional[row : row + 1].cpu(),
                unconditional=step.unconditional[row : row + 1].cpu(),
            )
            self.taken.append((row, state))
        return super().guide(step)

    def states(self) -> States:
        """What was taken, by trajectory."""
        return States.cat([state for _, state in sorted(self.taken, key=lambda taken: taken[0])])


def once(file: Path, make: Callable[[], dict[str, Tensor]], meter: Meter) -> dict[str, Tensor]:
    """Tensors from ``file``, if a killed run left them there, else what ``make`` gives, left there.

    The file is written whole or not at all, and what its making cost is not lost.

    Raises:
        ArtifactError: If the file cannot be read.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file

    if not file.exists():
        tensors = {name: tensor.contiguous() for name, tensor in make().items()}
        with whole(file) as unfinished:
            save_file(tensors, unfinished, {name: repr(value) for name, value in meter.read().items()})
        return tensors
    try:
        with safe_open(file, "pt") as content:
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
            meter.catch_up({name: float(value) for name, value in content.metadata().items()})
    except (KeyError, OSError, SafetensorError) as error:
        raise ArtifactError(
            f"erase: cannot read {file} ({error}). Delete {file.parent} and run again."
        ) from error
    return tensors
