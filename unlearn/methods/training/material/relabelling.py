"""Images of a concept with a new label, beside images of what stays: the data of SalUn and EraseDiff."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context
from unlearn.methods.training.material.aligned import Images, aligned, drawn
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler


@dataclass(frozen=True)
class Task:
    """What to predict on some latents.

    Attributes:
        latents: :math:`x_t`, with shape :math:`(B, C, h, w)`.
        timesteps: :math:`t`, with shape :math:`(B,)`.
        sentences: What the model is told, :math:`B` rows.
        target: What it should say, with shape :math:`(B, C, h, w)`.
    """

    latents: Tensor
    timesteps: Tensor
    sentences: Conditioning
    target: Tensor


def losses(model: DiffusionModel, *tasks: Task) -> list[Tensor]:
    """Mean squared error of each task, from one forward pass for all: each with shape :math:`()`."""
    predicted = model.predict(
        torch.cat([task.latents for task in tasks]),
        torch.cat([task.timesteps for task in tasks]),
        Conditioning.cat([task.sentences for task in tasks]),
    )
    parts = torch.split(predicted, [len(task.latents) for task in tasks])
    return [(part - task.target).square().mean() for part, task in zip(parts, tasks, strict=True)]


@dataclass(frozen=True)
class Relabelling:
    r"""What the original model draws for sentences with a concept and with what stays.

    Attributes:
        forget: Images for sentences :math:`c` with the concept.
        anchors: The same images, as if they were of the sentences :math:`a` with its anchor.
        retain: Images for sentences :math:`c'` with the anchor or a retained phrase.
    """

    forget: Images
    anchors: Images
    retain: Images

    @classmethod
    @torch.no_grad()
    def draw(
        cls, model: DiffusionModel, concepts: ConceptSet, count: int, sampler: Sampler, context: Context
    ) -> Relabelling:
        """Draws ``count`` images of either kind, unless a killed run left them in its scratch folder."""
        pairs = aligned(concepts, count, None, "anchor", context)
        others = aligned(concepts, count, None, "retained", context)
        forget = drawn(model, [old for old, _ in pairs], "forget", sampler, context)
        retain = drawn(model, [kept for _, kept in others], "retain", sampler, context)
        distinct = {sentence: row for row, sentence in enumerate(dict.fromkeys(new for _, new in pairs))}
        labels = Images(forget.clean, model.encode(list(distinct)), [distinct[new] for _, new in pairs])
        return cls(forget, labels, retain)

    def tasks(
        self, model: DiffusionModel, size: int, turn: int, random: Generator, context: Context
    ) -> tuple[Task, Task]:
        r"""What is to fall in one step.

        Arguments:
            size: Images of either kind.
            turn: Which batch of the shuffled passes over all images.
            random: For noise and timesteps.

        Returns:
            On images of the concept, the prediction for :math:`c` is to be what the model as trained so far
            predicts for :math:`a`, without gradient; on those of what stays, the noise.
        """
        chosen = shuffled(len(self.forget.rows), size, turn, context, "relabelling", "forget")
        clean, sentences = self.forget.batch(chosen)
        noised = Noised.draw(model, clean, random)
        with torch.no_grad():
            target = model.predict(noised.latents, noised.timesteps, self.anchors.batch(chosen)[1])
        others = shuffled(len(self.retain.rows), size, turn, context, "relabelling", "retain")
        clean, kept_sentences = self.retain.batch(others)
        kept = Noised.draw(model, clean, random)
        return (
            Task(noised.latents, noised.timesteps, sentences, target),
            Task(kept.latents, kept.timesteps, kept_sentences, kept.target),
        )
