"""Images with a concept and images without it, for sentences that differ in nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.concepts.sentences import fill
from unlearn.methods.method import Context
from unlearn.methods.training.material.pool import clean_latents, shuffled
from unlearn.methods.training.material.states import once
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler

#: What stands in a concept's place.
PARTNERS = ("anchor", "retained")


@dataclass(frozen=True)
class Images:
    """What the original model draws for some sentences.

    Attributes:
        clean: Clean latents, with shape :math:`(N, C, h, w)`, on the CPU.
        sentences: The distinct sentences, encoded.
        rows: Which of them each image is of.
    """

    clean: Tensor
    sentences: Conditioning
    rows: list[int]

    def batch(self, chosen: Tensor) -> tuple[Tensor, Conditioning]:
        """Some images, and the sentences that they are of."""
        return self.clean[chosen], self.sentences[[self.rows[i] for i in chosen.tolist()]]


@torch.no_grad()
def drawn(
    model: DiffusionModel, sentences: Sequence[str], name: str, sampler: Sampler, context: Context
) -> Images:
    """Draws one image for each entry of ``sentences``, unless a killed run left them in its scratch folder.

    Arguments:
        name: Of the file there.
    """
    distinct = {sentence: row for row, sentence in enumerate(dict.fromkeys(sentences))}
    rows = [distinct[sentence] for sentence in sentences]
    encoded = model.encode(list(distinct))
    seeds = [context.derive_seed(name, "image", i) for i in range(len(rows))]

    def make() -> dict[str, Tensor]:
        return {"images": clean_latents(model, encoded, rows, seeds, sampler)}

    return Images(once(context.scratch / f"{name}.safetensors", make, context.meter)["images"], encoded, rows)


def aligned(
    concepts: ConceptSet, count: int, sentences: int | None, partners: str, context: Context
) -> list[tuple[str, str]]:
    """Sentences with a concept, and the same ones with something else.

    Concepts take turns. Sentences around the phrases of each follow in passes of random order that meet each
    once, and so do retained phrases.

    Arguments:
        count: How many pairs.
        sentences: How many sentences around each phrase; None takes all.
        partners: ``anchor``, or ``retained``: in turn the anchor and a retained phrase.
    """
    parts = [
        _aligned(concept, -(-count // len(concepts.erase)), sentences, partners, concepts.phrases, context)
        for concept in concepts.erase.values()
    ]
    return [pair for turn in zip(*parts, strict=True) for pair in turn][:count]


def _aligned(
    concept: Concept,
    count: int,
    sentences: int | None,
    partners: str,
    erased: Sequence[str],
    context: Context,
) -> list[tuple[str, str]]:
    asked = list(product(concept.phrases, concept.sentences[:sentences]))
    scope = ("aligned", concept.phrases[0])
    left = shuffled(len(asked), count, 0, context, *scope, "sentence").tolist()
    others = [concept.anchor] * count
    kept = [phrase for phrase in concept.retain if phrase not in erased]
    if partners == "retained" and kept:
        right = shuffled(len(kept), count // 2, 0, context, *scope, "partner").tolist()
        others[1::2] = [kept[j] for j in right]
    return [
        (fill(asked[i][1], asked[i][0]), fill(asked[i][1], other))
        for i, other in zip(left, others, strict=True)
    ]
