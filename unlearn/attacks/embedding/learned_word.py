"""How a word for a concept is learned through an erased model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from unlearn.attacks.embedding.descent import Descent
from unlearn.attacks.fitting import Fitting
from unlearn.concepts.concept import Concept
from unlearn.models.guards import Guard
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Place, Sampler, guided_prediction
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.words import Words, taught
from unlearn.seeding import generator as seeded
from unlearn.settings import Settings, setting

STARTS = ("anchor", "mean")

#: Forwards for an image under a guard: two of the original model's, and three under the guard.
GUARDED = 5

#: Draws of timestep and noise on which the loss is compared before and after.
PROBES = 32


@dataclass(kw_only=True)
class Recipe(Settings):
    """How words are learned.

    Attributes:
        vectors: Embeddings that make up a word.
        start: Where they start: at the ``anchor``, or at the ``mean`` of the vocabulary.
        longest: Bound on their length, relative to the mean of the vocabulary's; None for none.
        steps: Steps of AdamW.
        batch_size: Images of each concept in each step, and those that are predicted at a time.
        lr: Learning rate.
        weight_decay: Share of ``lr`` by which the embeddings shrink each step.
    """

    vectors: int = setting(least=1)
    start: str = setting(choices=STARTS)
    longest: float | None = setting(above=0, null="none")
    steps: int = setting(least=1)
    batch_size: int = setting(least=1)
    lr: float = setting(above=0)
    weight_decay: float = setting(least=0)


@dataclass(frozen=True)
class Lesson:
    """What the word of one concept is learned from.

    Attributes:
        concept: The concept's name.
        described: The concept.
        word: The signs that stand for it.
        ids: Their tokens.
        clean: Latents of its images, with shape :math:`(N, C, h, w)`.
        told: The sentence of each image, with the word in the concept's place.
        plain: The sentence that it was drawn for.
        seed: Root of its randomness.
    """

    concept: str
    described: Concept
    word: str
    ids: tuple[int, ...]
    clean: Tensor
    told: list[str]
    plain: list[str]
    seed: int


class Learning:
    """How the words of :math:`C` concepts are learned together: each evolves as it would alone.

    Attributes:
        together: Images that are predicted at a time.
    """

    def __init__(
        self,
        settings: Recipe,
        model: DiffusionModel,
        lessons: Sequence[Lesson],
        sampler: Sampler,
        guard: Guard | None = None,
    ) -> None:
        """Starts at the anchors, or at the vocabulary's mean.

        Arguments:
            model: The erased model.
            sampler: How images are drawn.
            guard: What acts while they are drawn, if the weights are the original's.
        """
        self.settings, self.model, self.lessons = settings, model, lessons
        self.guidance, self.guard = sampler.guidance, guard
        self.timesteps = model.scheduler(sampler.scheduler, sampler.steps).timesteps.to(model.device).long()
        self.together = Fitting(settings.batch_size)
        with torch.no_grad():
            table = model.embed(torch.arange(len(model.tokenizer), device=model.device)[None])[0].float()
            self.usual = table.norm(dim=1).mean()
            starts = [self._start(lesson, table) for lesson in lessons]
        self.start = torch.stack(starts)[:, None].repeat(1, settings.vectors, 1)

    def _start(self, lesson: Lesson, table: Tensor) -> Tensor:
        if self.settings.start == "mean":
            return table.mean(dim=0)
        ids = self.model.tokenize([lesson.described.anchor])[0].tolist()
        own = ids[1 : ids.index(self.model.tokenizer.eos_token_id, 1)]
        return table[own].mean(dim=0)

    def words(self, embeddings: Tensor) -> Words:
        """What is handed on of embeddings with shape :math:`(C, K, E)`."""
        ids = tuple(number for lesson in self.lessons for number in lesson.ids)
        return Words(ids, embeddings.flatten(0, 1).cpu())

    def lengths(self, embeddings: Tensor) -> dict[str, list[float]]:
        """Length of each embedding by concept, relative to the mean of the vocabulary's."""
        ratios = (embeddings.norm(dim=2) / self.usual).tolist()
        return {lesson.concept: row for lesson, row in zip(self.lessons, ratios, strict=True)}

    def learned(self) -> Tensor:
        """The embeddings after all steps, with shape :math:`(C, K, E)`."""
        own = self.settings
        steps = own.steps if self.guard is None else max(1, own.steps // GUARDED)
        descent = Descent(steps=steps, lr=own.lr, weight_decay=own.weight_decay)
        longest = None if own.longest is None else own.longest * self.usual.item()
        found, _ = descent.descend(self.start, self._slope, longest=longest, progress=True)
        return found

    def _slope(self, step: int, embeddings: Tensor) -> Tensor:
        """What has the value and the gradient of all losses of a step, and holds the graphs of none."""
        size = self.settings.batch_size
        draws = self._draws(size, "step", step)

        def part(rows: Sequence[int]) -> tuple[Tensor, Tensor]:
            loss = self._errors(embeddings, draws, rows).sum() / size
            (gradient,) = gradients_of(loss, [embeddings])
            return loss.detach(), gradient

        found = list(self.together.over(range(len(draws.told)), part))
        slope = sum(gradient for _, gradient in found)
        return sum(loss for loss, _ in found) + (slope * (embeddings - embeddings.detach())).sum()

    @torch.no_grad()
    def probe(self, embeddings: Tensor) -> list[float]:
        """The loss of each concept on draws that are always the same."""
        size = self.settings.batch_size
        parts = [
            min(size, PROBES - first) * self.losses(embeddings, min(size, PROBES - first), "probe", first)
            for first in range(0, PROBES, size)
        ]
        return (torch.stack(parts).sum(dim=0) / PROBES).tolist()

    def losses(self, embeddings: Tensor, size: int, *scope: str | int) -> Tensor:
        """The loss of each concept on ``size`` of its images, with shape :math:`(C)`.

        Arguments:
            embeddings: With shape :math:`(C, K, E)`.
            scope: Names the draw.
        """
        draws = self._draws(size, *scope)
        found = self.together.over(range(len(draws.told)), lambda rows: self._errors(embeddings, draws, rows))
        return torch.cat(list(found)).reshape(len(self.lessons), size).mean(dim=1)

    def _draws(self, size: int, *scope: str | int) -> Draws:
        """``size`` noisy images of each concept."""
        model = self.model
        clean, noise, timesteps, told, plain = [], [], [], [], []
        for lesson in self.lessons:
            random = seeded(lesson.seed, *scope)
            rows = torch.randint(len(lesson.clean), (size,), generator=random)
            timesteps.append(torch.randint(len(model.alphas_cumprod), (size,), generator=random))
            clean.append(lesson.clean[rows.to(lesson.clean.device)])
            noise.append(torch.randn(clean[-1].shape, generator=random))
            told += [lesson.told[row] for row in rows.tolist()]
            plain += [lesson.plain[row] for row in rows.tolist()]
        latents = torch.cat(clean)
        epsilon = torch.cat(noise).to(latents)
        if self.guard is None:
            t = torch.cat(timesteps).to(model.device)
            return Draws(model.add_noise(latents, epsilon, t), t, model.target(latents, epsilon, t), told)
        place = self._place(*scope)
        noisy = model.add_noise(latents, epsilon, place.timestep.expand(len(latents)))
        with torch.no_grad():
            free = [
                self._guided(Guard(), noisy[first : first + size], place, plain[first : first + size])
                for first in range(0, len(plain), size)
            ]
        return Draws(noisy, place, torch.cat(free), told)

    def _place(self, *scope: str | int) -> Place:
        """A step of the loop: guards may go by its number."""
        total = len(self.timesteps)
        index = int(torch.randint(total, (), generator=seeded(0, "place", *scope)))
        return Place(index, total, self.timesteps[index])

    def _errors(self, embeddings: Tensor, draws: Draws, rows: Sequence[int]) -> Tensor:
        """Of some draws, with shape :math:`(N)`, in one forward pass."""
        own, told = list(rows), [draws.told[row] for row in rows]
        ids = tuple(number for lesson in self.lessons for number in lesson.ids)
        with taught(self.model, Words(ids, embeddings.flatten(0, 1))):
            if isinstance(draws.at, Place):
                # One that has counted no steps: it may keep what earlier ones pushed.
                guard = replace(cast("Any", self.guard))
                found = self._guided(guard, draws.noisy[own], draws.at, told)
            else:
                found = self.model.predict(draws.noisy[own], draws.at[own], self._encoded(told))
        return (found - draws.wanted[own]).float().square().mean(dim=(1, 2, 3))

    def _guided(self, guard: Guard, noisy: Tensor, place: Place, prompts: Sequence[str]) -> Tensor:
        """What a step of the loop goes along."""
        asked, negative = guard.prompts(prompts, [""] * len(prompts))
        extra = [[prompt] * len(prompts) for prompt in guard.extra_prompts()]
        parts = [self._encoded(texts) for texts in (negative, asked, *extra)]
        with guard.attached(self.model.parts):
            return guided_prediction(self.model, noisy, place, parts, self.guidance, guard, asked)

    def _encoded(self, texts: Sequence[str]) -> Conditioning:
        """Each distinct text is encoded once."""
        distinct = list(dict.fromkeys(texts))
        return self.model.encode(distinct)[[distinct.index(text) for text in texts]]


@dataclass(frozen=True)
class Draws:
    """Noisy images of all concepts, and what they should be taken for.

    Attributes:
        noisy: With shape :math:`(N, C, h, w)`.
        at: Their timesteps, with shape :math:`(N)`; under a guard, the step of the loop that all stand at.
        wanted: With shape :math:`(N, C, h, w)`.
        told: The sentence of each.
    """

    noisy: Tensor
    at: Tensor | Place
    wanted: Tensor
    told: list[str]
