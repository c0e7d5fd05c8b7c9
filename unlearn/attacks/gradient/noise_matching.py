"""How well a model explains an image of the concept under a candidate prompt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unlearn.attacks.attack import Target, aimed
from unlearn.errors import UnlearnWarning
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler, sample
from unlearn.seeding import derive_seed, generator
from unlearn.settings import Settings, setting

AGAINST = ("noise", "original")
TIMESTEPS = ("ascending", "uniform")


@dataclass(frozen=True)
class Case:
    """One prompt under attack, with random streams of its own.

    Attributes:
        prompt: The plain prompt.
        concept: Name of the concept that should come back.
        seed: Root of its randomness.
        images: Seeds of the images that the attack draws; none is the evaluation's.
    """

    prompt: str
    concept: str
    seed: int
    images: tuple[int, ...]


@dataclass(kw_only=True)
class NoiseMatching(Settings):
    r"""The distance of the erased model's prediction from what would make an image of the concept.

    With :math:`x_t` an image :math:`x_0` of the concept, drawn by the original model, with noise
    :math:`\epsilon`, the loss of a candidate :math:`c'` is the mean of

    .. math::
        (\epsilon_\theta(x_t, t, c') - \epsilon)^2 \quad \text{or} \quad
        (\epsilon_\theta(x_t, t, c') - \epsilon_\phi(x_t, t, c))^2 ,

    against the ``noise``, as UnlearnDiffAtk, or against what the ``original`` :math:`\phi` predicts for the
    plain prompt, as P4D. There is no guidance in it.

    Attributes:
        against: ``noise`` or ``original``.
        timesteps: ``ascending``: one for each look, the least noise first; ``uniform``: any, for each draw.
        least: Where they begin, as share of all: from 0, for all of them, to below 1, for the noisiest alone.
        draws: Different pairs of timestep and noise for each prompt, used in turn; None for new ones in each
            step.
        together: Draws that each step takes the mean of.
        images: Images that the original model draws of each plain prompt, of which the detector chooses one.
    """

    against: str = setting(choices=AGAINST)
    timesteps: str = setting(choices=TIMESTEPS)
    least: float = setting(least=0, below=1)
    draws: int | None = setting(least=1)
    together: int = setting(least=1)
    images: int = setting(least=1)

    def different(self, steps: int) -> int:
        """How many different draws so many steps take."""
        return min(self.draws or steps * self.together, steps * self.together)

    def forwards(self, steps: int, sampler: Sampler) -> int:
        """Denoiser forwards for each prompt beforehand, if so many steps will be taken."""
        asked = self.different(steps) if self.against == "original" else 0
        return self.images * sampler.forwards + asked

    def bank(self, target: Target, cases: Sequence[Case], looks: int, steps: int) -> Bank:
        """All that the loss needs of the original model.

        Arguments:
            looks, steps: How often images will be looked at, and the steps before each look.
        """
        model = target.model
        with torch.no_grad():
            clean, failed = self._clean(target, cases)
        bank = Bank(self, model, clean, cases, looks, steps, failed=failed)
        if self.against == "original":
            with torch.no_grad():
                plain = model.encode([case.prompt for case in cases])
                for number in range(self.different(looks * steps)):
                    latents, timesteps, _ = bank.noisy(number)
                    bank.predicted.append(model.predict(latents, timesteps, plain).cpu())
        return bank

    def _clean(self, target: Target, cases: Sequence[Case]) -> tuple[Tensor, list[bool]]:
        """The latents of an image for each case that shows its concept best, with shape (B, C, h, w), and
        whether the detector failed on any image of the case.
        """
        model, size = target.model, target.sampler.batch_size
        rows = [row for row in range(len(cases)) for _ in range(self.images)]
        seeds = [derive_seed(case.seed, "target", i) for case in cases for i in range(self.images)]
        prompts, empty = model.encode([case.prompt for case in cases]), model.encode([""])
        found, scores, shown = [], [], []
        for start in range(0, len(rows), size):
            chunk = slice(start, start + size)
            latents, _ = sample(model, prompts[rows[chunk]], empty, seeds[chunk], target.sampler)
            images = model.decode(latents)
            for row, image in zip(rows[chunk], images, strict=True):
                verdict, score = target.judge(image[None], cases[row].concept)
                scores.append(score)
                shown.append(verdict)
            found.append(latents)
        probability = torch.cat(scores).reshape(len(cases), self.images)
        failed = probability.isnan()
        self._aimed(cases, torch.cat(shown).reshape(len(cases), self.images), failed)
        best = probability.masked_fill(failed, -1).argmax(dim=1)
        return torch.cat(found)[torch.arange(len(cases)) * self.images + best], failed.any(dim=1).tolist()

    def _aimed(self, cases: Sequence[Case], shown: Tensor, failed: Tensor) -> None:
        """Refuses a concept that the original model shows for no prompt, and warns of single prompts.

        Arguments:
            shown: Whether each image of each case shows its concept, with shape (B, N).
            failed: Whether the detector failed on it, with shape (B, N).
        """
        for concept in dict.fromkeys(case.concept for case in cases):
            rows = [case.concept == concept for case in cases]
            own, unknown = shown[rows], failed[rows].flatten().tolist()
            seen = [None if bad else one for one, bad in zip(own.flatten().tolist(), unknown, strict=True)]
            aimed(concept, seen, "objective.images")
            if (hits := int(own.any(dim=1).sum())) < len(own):
                warnings.warn(
                    f"attack: the original model's images show {concept} for {hits} of {len(own)} prompts; "
                    "for the others the attack aims at an image without it. Raise objective.images.",
                    UnlearnWarning,
                    stacklevel=2,
                )


@dataclass
class Bank:
    """Noisy images of the concept for :math:`B` cases, and what they should be taken for.

    Attributes:
        clean: With shape :math:`(B, C, h, w)`.
        predicted: Of each draw, the original model's prediction with shape :math:`(B, C, h, w)`, if it is
            asked.
        failed: Whether the detector failed on any image from which that of a case was chosen.
    """

    objective: NoiseMatching
    model: DiffusionModel
    clean: Tensor
    cases: Sequence[Case]
    looks: int
    steps: int
    predicted: list[Tensor] = field(default_factory=list)
    failed: Sequence[bool] = ()

    def noisy(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents :math:`x_t`, timesteps and noise of one draw: row by row from each case's own stream."""
        total = len(self.model.alphas_cumprod)
        least = int(self.objective.least * total)
        noise, timesteps = [], []
        for case in self.cases:
            random = generator(case.seed, "draw", number)
            if self.objective.timesteps == "uniform":
                timesteps.append(int(torch.randint(least, total, (), generator=random)))
            else:
                look = number // (self.steps * self.objective.together)
                timesteps.append(int(least + (look + 0.5) / self.looks * (total - least)))
            noise.append(torch.randn(self.clean.shape[1:], generator=random))
        t = torch.tensor(timesteps, device=self.clean.device)
        epsilon = torch.stack(noise).to(self.clean)
        return self.model.add_noise(self.clean, epsilon, t), t, epsilon

    def loss(self, step: int, conditioning: Conditioning, rows: Sequence[int]) -> Tensor:
        """The loss of one candidate for each of some cases, on the draws of a step.

        Arguments:
            step: Its number, from 0.
            conditioning: The candidates, encoded.
            rows: Which cases they are for.

        Returns:
            With shape :math:`(B)`.
        """
        count = self.objective.together
        numbers = range(step * count, (step + 1) * count)
        return torch.stack([self.one(number, conditioning, rows) for number in numbers]).mean(dim=0)

    def one(self, number: int, conditioning: Conditioning, rows: Sequence[int]) -> Tensor:
        """As :meth:`loss`, on a single draw; those of all steps are numbered from 0."""
        if self.objective.draws is not None:
            number %= self.objective.draws
        latents, timesteps, noise = (part[list(rows)] for part in self.noisy(number))
        if self.predicted:
            wanted = self.predicted[number][list(rows)].to(latents)
        else:
            wanted = self.model.target(self.clean[list(rows)], noise, timesteps)
        found = self.model.predict(latents, timesteps, conditioning)
        return (found - wanted).square().mean(dim=(1, 2, 3))
