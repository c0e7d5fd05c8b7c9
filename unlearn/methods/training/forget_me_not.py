"""Forget-Me-Not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.phrases import phrases
from unlearn.methods.training.loop import fit
from unlearn.methods.training.material.aligned import Images, drawn
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.attention import recorded
from unlearn.models.weights.parameters import matching, select
from unlearn.settings import setting

ENDS = ("none", "first", "all")

#: Below this, a sum of squares counts as 0 and has no gradient.
TINY = 1e-12


@dataclass(kw_only=True)
class ForgetMeNot(Trained):
    r"""Takes attention off a concept's words (attention resteering).

    With :math:`A_l`, of shape images, heads, pixels, tokens, what cross-attention :math:`l` looks at on
    noised images of the concept, the loss is one norm over all of them,

    .. math:: \Big( \sum_l \sum_b \sum_{k \in T_b} \| A_{l b \cdot \cdot k} \|^2 \Big)^{1/2} ,

    over the tokens :math:`T_b` of the phrase in the sentence of image :math:`b`, and the end token. There is
    no other term: nothing holds what is to stay but few and small steps. What lies behind the last
    cross-attention's probabilities gets no gradient and does not change.

    The released code lays its masks head by head over probabilities that lie image by image, so that in a
    batch of several images each gets the tokens of others; it needs phrases of one length, and batches of one
    are its default. Here each image has its own, whatever their lengths. What it calls the pooler is every
    position with the end token's id: the end token alone on Stable Diffusion 2.1, and all of the padding as
    well on 1.x (``ends: all``). It trains on some ten photographs, with words or with tokens that are found
    by textual inversion; here images are drawn by the model itself, and the words are the concept's.

    References:
        | Forget-Me-Not: Learning to Forget in Text-to-Image Diffusion Models (Zhang et al., 2023)
        | https://arxiv.org/abs/2303.17591

    Attributes:
        ends: Tokens that count beside the phrase's: ``none``, the ``first`` end token, or ``all`` from there.
        images: Images of the concept, for the first sentences of each phrase.
        batch_size: Images in each step.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2303.17591"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    ends: str = setting(choices=ENDS)
    images: int = setting(least=1)

    @property
    def reads(self) -> frozenset[str]:
        """Its sentences alone."""
        return frozenset({"templates"})

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws the images and trains the selected parameters."""
        self.check(model, concepts)
        matching(model, self.parameters)  # complains before anything is drawn
        sentences, tokens = self.sentences(model, concepts)
        rows = [i % len(sentences) for i in range(self.images)]
        images = drawn(model, [sentences[row] for row in rows], "forget", self.sampler, context)
        with select(model, self.parameters) as selection:

            def loss(step: int) -> Tensor:
                return self.loss(model, images, tokens[rows], step, context)

            return finished(selection, fit(selection, loss, self.steps, self.optimizer, context))

    def sentences(self, model: DiffusionModel, concepts: ConceptSet) -> tuple[list[str], Tensor]:
        """All sentences, the first of every phrase first, and the tokens that count in each.

        Returns:
            :math:`S` sentences, and a bool tensor with shape :math:`(S, L)`.
        """
        found = []
        for name, concept in concepts.erase.items():
            for phrase in phrases(model, name, concept):
                first = phrase.after & (phrase.after.cumsum(dim=1) == 1)
                ends = {"none": torch.zeros_like(first), "first": first, "all": phrase.after}[self.ends]
                counting = phrase.own | ends
                found += [(i, text, counting[i]) for i, text in enumerate(phrase.sentences)]
        found.sort(key=lambda entry: entry[0])
        return [text for _, text, _ in found], torch.stack([own for _, _, own in found])

    def loss(
        self, model: DiffusionModel, images: Images, tokens: Tensor, step: int, context: Context
    ) -> Tensor:
        """The norm of one step, with shape :math:`()`.

        Arguments:
            tokens: The tokens that count for each image, with shape :math:`(N, L)`, bool.
        """
        chosen = shuffled(len(images.rows), self.batch_size, step, context, "forget_me_not")
        clean, sentences = images.batch(chosen)
        noised = Noised.draw(model, clean, context.generator("forget_me_not", "step", step))
        with recorded(model) as maps:
            model.predict(noised.latents, noised.timesteps, sentences)
        return attended(maps, tokens[chosen.to(tokens.device)])


def attended(maps: Sequence[Tensor], tokens: Tensor) -> Tensor:
    """The norm of all attention that some tokens get, with shape :math:`()`.

    Arguments:
        maps: Probabilities of each module, with shape :math:`(B, H, P, L)`.
        tokens: The tokens that count, with shape :math:`(B, L)`, bool.
    """
    squares = [(each.float().square() * tokens[:, None, None]).sum() for each in maps]
    return torch.stack(squares).sum().clamp(min=TINY).sqrt()
