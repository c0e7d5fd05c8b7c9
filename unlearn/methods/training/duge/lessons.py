"""Images that the original model draws, and what another is to learn of each: the batches of DUGE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import torch
from torch import Generator, Tensor

from unlearn.concepts.concept import Concept
from unlearn.methods.method import Context
from unlearn.methods.training.material.pool import Noised, clean_latents, shuffled
from unlearn.methods.training.material.states import once
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler


@dataclass(frozen=True)
class Lesson:
    """One part of every batch.

    Attributes:
        drawn: Sentences that the images are drawn for, in turn; also what the original model is told.
        told: For each of them, the sentences of which the trained model is told one.
        images: How many images are drawn.
        rows: How many of them are in a batch.
    """

    drawn: list[str]
    told: list[list[str]]
    images: int
    rows: int

    @classmethod
    def of_surrogates(cls, concepts: Iterable[Concept], images: int, rows: int, random: Generator) -> Lesson:
        """Images of anchors, told as the concepts; of each concept as many as of any other."""
        told: dict[str, list[str]] = {}
        by_concept = []
        for concept in concepts:
            pairs = concept.sentence_pairs()
            for old, new in pairs:
                told.setdefault(new, []).append(old)
            by_concept.append(mixed([new for _, new in pairs], random))
        turns = (new for turn in zip_longest(*by_concept) for new in turn if new is not None)
        drawn = list(dict.fromkeys(turns))[:images]
        return cls(drawn, [told[new] for new in drawn], images, rows)

    @classmethod
    def of_memory(cls, sentences: Sequence[str], images: int, rows: int, random: Generator) -> Lesson:
        """Images of sentences, told as they are."""
        drawn = mixed(sentences, random)[:images]
        return cls(drawn, [[text] for text in drawn], images, rows)


@dataclass(frozen=True)
class Batch:
    """Rows of all lessons.

    Attributes:
        noised: Latents with noise, each at a timestep of its own.
        original: What the original model is told of each.
        own: What the trained model is told of each.
    """

    noised: Noised
    original: Conditioning
    own: Conditioning


class Course:
    """All lessons, their sentences encoded once, and their images drawn once."""

    def __init__(
        self, model: DiffusionModel, lessons: Sequence[Lesson], sampler: Sampler, context: Context
    ) -> None:
        """Draws the images, or finds what a killed run drew.

        Arguments:
            model: The original model.
            lessons: At least one.
            sampler: How the images are drawn.
            context: Its scratch folder keeps the images.
        """
        self.lessons = lessons
        texts = list(dict.fromkeys(chain(*(chain(each.drawn, *each.told) for each in lessons))))
        self._rows = {text: row for row, text in enumerate(texts)}
        with torch.no_grad():
            self._encoded = model.encode(texts)
        asked = [each.drawn[i % len(each.drawn)] for each in lessons for i in range(each.images)]
        rows = [self._rows[text] for text in asked]
        seeds = [context.derive_seed("lessons", "image", i) for i in range(len(rows))]

        def make() -> dict[str, Tensor]:
            return {"images": clean_latents(model, self._encoded, rows, seeds, sampler)}

        images = once(context.scratch / "images.safetensors", make, context.meter)["images"]
        self._images = torch.split(images, [each.images for each in lessons])

    def batch(self, model: DiffusionModel, step: int, context: Context) -> Batch:
        """What one step looks at: images of each lesson, in the order of the lessons."""
        random = context.generator("lessons", "step", step)
        clean, original, own = [], [], []
        for number, (lesson, images) in enumerate(zip(self.lessons, self._images, strict=True)):
            for i in shuffled(lesson.images, lesson.rows, step, context, "lessons", number).tolist():
                told = lesson.told[i % len(lesson.drawn)]
                clean.append(images[i])
                original.append(self._rows[lesson.drawn[i % len(lesson.drawn)]])
                own.append(self._rows[told[int(torch.randint(len(told), (), generator=random))]])
        noised = Noised.draw(model, torch.stack(clean), random)
        return Batch(noised, self._encoded[original], self._encoded[own])


def mixed(texts: Sequence[str], random: Generator) -> list[str]:
    """Distinct texts in random order."""
    distinct = list(dict.fromkeys(texts))
    return [distinct[i] for i in torch.randperm(len(distinct), generator=random).tolist()]
