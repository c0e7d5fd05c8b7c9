"""Images of a concept with a new label, beside images of what stays: the data of SalUn and EraseDiff."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.concepts import ConceptSet
from unlearn.methods.aligned import Images, aligned, drawn
from unlearn.methods.method import Context
from unlearn.methods.pool import Noised, shuffled
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler


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

    def losses(
        self, model: DiffusionModel, size: int, turn: int, random: Generator, context: Context
    ) -> tuple[Tensor, Tensor]:
        r"""What is to fall in one step, from one forward pass with gradients.

        Arguments:
            size: Images of either kind.
            turn: Which batch of the shuffled passes over all images.
            random: For noise and timesteps.

        Returns:
            :math:`\overline{\| \epsilon_\theta(x_t, t, c) - \mathrm{sg}\, \epsilon_\theta(x_t, t, a) \|^2}`
            on images of the concept, and the denoising loss on those of what stays, each a mean with shape
            :math:`()`.
        """
        chosen = shuffled(len(self.forget.rows), size, turn, context, "relabelling", "forget")
        clean, sentences = self.forget.batch(chosen)
        noised = Noised.draw(model, clean, random)
        with torch.no_grad():
            target = model.predict(noised.latents, noised.timesteps, self.anchors.batch(chosen)[1])
        others = shuffled(len(self.retain.rows), size, turn, context, "relabelling", "retain")
        clean, kept_sentences = self.retain.batch(others)
        kept = Noised.draw(model, clean, random)
        predicted, again = model.predict(
            torch.cat([noised.latents, kept.latents]),
            torch.cat([noised.timesteps, kept.timesteps]),
            Conditioning.cat([sentences, kept_sentences]),
        ).chunk(2)
        return (predicted - target).square().mean(), (again - kept.target).square().mean()
