"""Images of what takes a concept's place, and the sentences that they go with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context
from unlearn.methods.training.material.pool import clean_latents, shuffled
from unlearn.methods.training.material.states import once
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler


@dataclass(frozen=True)
class AnchorBatch:
    """Some of the images, with a sentence to erase for each.

    Attributes:
        clean: Clean latents, with shape :math:`(B, C, h, w)`, on the CPU.
        erased: A sentence with the concept for each.
        anchored: The same sentence with the anchor, which the image was drawn for.
    """

    clean: Tensor
    erased: Conditioning
    anchored: Conditioning


@dataclass(frozen=True)
class Anchors:
    """What the original model draws for the anchors of all concepts.

    Attributes:
        images: Clean latents, with shape :math:`(N, C, h, w)`, on the CPU; image :math:`i` is of sentence
            :math:`i \\bmod S`.
        anchored: The :math:`S` sentences with an anchor, each once.
        erased: The sentences with a concept.
        partners: For each of the :math:`S` sentences, the rows of ``erased`` that it takes the place of.
    """

    images: Tensor
    anchored: Conditioning
    erased: Conditioning
    partners: list[list[int]]

    @classmethod
    @torch.no_grad()
    def draw(
        cls,
        model: DiffusionModel,
        concepts: ConceptSet,
        count: int,
        sampler: Sampler,
        context: Context,
        negative: bool = False,
    ) -> Anchors:
        """Encodes all sentences and draws ``count`` images, unless a killed run left them in its scratch.

        Arguments:
            negative: Whether the phrases of a concept are the negative prompt of its anchor's images.
        """
        erased: dict[str, int] = {}
        partners: dict[str, list[int]] = {}
        phrases: dict[str, dict[str, None]] = {}
        for concept in concepts.erase.values():
            for old, new in concept.sentence_pairs():
                row = erased.setdefault(old, len(erased))
                partners.setdefault(new, []).append(row)
                phrases.setdefault(new, {}).update(dict.fromkeys(concept.phrases))
        anchored = model.encode(list(partners))
        away = model.encode([", ".join(each) for each in phrases.values()]) if negative else None
        encoded = model.encode(list(erased))

        def make() -> dict[str, Tensor]:
            rows = [i % len(partners) for i in range(count)]
            seeds = [context.derive_seed("anchors", "image", i) for i in range(count)]
            return {"images": clean_latents(model, anchored, rows, seeds, sampler, away)}

        images = once(context.scratch / "anchors.safetensors", make, context.meter)["images"]
        return cls(images, anchored, encoded, list(partners.values()))

    def batch(self, size: int, step: int, context: Context, *scope: str) -> AnchorBatch:
        """The images of one step, out of shuffled passes over all.

        Of several sentences with the concept that an image could take the place of, one is drawn.

        Arguments:
            scope: Names the use, if one step takes several batches.
        """
        chosen = shuffled(len(self.images), size, step, context, "anchors", *scope)
        random = context.generator("anchors", *scope, "sentence", step)
        rows = (chosen % len(self.partners)).tolist()
        own = [self.partners[row] for row in rows]
        partners = [rows[int(torch.randint(len(rows), (), generator=random))] for rows in own]
        return AnchorBatch(self.images[chosen], self.erased[partners], self.anchored[rows])
