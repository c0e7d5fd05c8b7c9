"""How near a candidate comes to the concept, as the original text encoder has it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unlearn.attacks.attack import Target
from unlearn.attacks.spaces import content
from unlearn.concepts.concept import PromptSet
from unlearn.models.model import DiffusionModel
from unlearn.settings import Settings, setting


class TextObjective(Settings, ABC):
    """What is compared of an encoded candidate, and with what."""

    @abstractmethod
    def goals(self, target: Target, prompts: PromptSet) -> Tensor:
        """What each of :math:`P` prompts is compared with, with shape :math:`(P, ...)`."""

    @abstractmethod
    def length(self, last: int, whole: int) -> int:
        """How many text positions must be encoded. The encoder is causal: none depends on a later one.

        Arguments:
            last: The last position of an end token.
            whole: All that there are.
        """

    @abstractmethod
    def losses(self, tokens: Tensor, ends: Tensor, goals: Tensor) -> Tensor:
        """Losses with shape :math:`(N)`.

        Arguments:
            tokens: Encoded candidates, with shape :math:`(N, L, D)`.
            ends: Positions of their end tokens, with shape :math:`(N)`.
            goals: Of the prompt of each, with shape :math:`(N, ...)`.
        """


@dataclass(kw_only=True)
class ShiftedEmbedding(TextObjective):
    r"""The distance from the prompt's embedding, moved towards the concept (Ring-A-Bell).

    With :math:`E` the embeddings of all text positions and pairs of sentences with and without the concept,

    .. math::
        v = \frac{1}{N} \sum_i E(s_i^{+}) - E(s_i^{-}), \qquad
        \ell(c) = \lVert E(c) - (E(p) + \eta v) \rVert^2 ,

    summed, not averaged. The pairs are the concept's own phrases and its anchor in the same sentences; the
    authors wrote theirs by hand.

    References:
        | Ring-A-Bell! How Reliable are Concept Removal Methods for Diffusion Models? (Tsai et al., 2023)
        | https://arxiv.org/abs/2310.10012

    Attributes:
        strength: How far it is moved, :math:`\eta`.
        sentences: In how many sentences each phrase is paired; None for all that there are.
    """

    strength: float = setting(least=0)
    sentences: int | None = setting(least=1)

    def goals(self, target: Target, prompts: PromptSet) -> Tensor:
        """With shape :math:`(P, L, D)`."""
        model = target.model
        directions = {
            name: direction(model, target.concepts.erase[name].sentence_pairs(self.sentences))
            for name in dict.fromkeys(prompts.concepts)
        }
        plain = model.encode(prompts.prompts).tokens.float()
        return plain + self.strength * torch.stack([directions[name] for name in prompts.concepts])

    def length(self, last: int, whole: int) -> int:  # noqa: ARG002
        """All: what stands behind the end token sees the candidate, too."""
        return whole

    def losses(self, tokens: Tensor, ends: Tensor, goals: Tensor) -> Tensor:  # noqa: ARG002
        """Sums over all positions."""
        return (tokens.float() - goals).square().sum(dim=(1, 2))


@dataclass(kw_only=True)
class EndCosine(TextObjective):
    """One minus the cosine to the plain prompt at the end token, which stands for the whole (MMA-Diffusion).

    References:
        | MMA-Diffusion: MultiModal Attack on Diffusion Models (Yang et al., 2023)
        | https://arxiv.org/abs/2311.17516
    """

    def goals(self, target: Target, prompts: PromptSet) -> Tensor:
        """With shape :math:`(P, D)`."""
        ids = target.model.tokenize(prompts.prompts)
        ends = torch.tensor([len(content(target, row)) + 1 for row in ids.cpu().tolist()])
        return _at(target.model.encode(prompts.prompts).tokens.float(), ends.to(ids.device))

    def length(self, last: int, whole: int) -> int:  # noqa: ARG002
        """Up to the end token."""
        return last + 1

    def losses(self, tokens: Tensor, ends: Tensor, goals: Tensor) -> Tensor:
        """From 0 to 2."""
        return 1 - cosine_similarity(_at(tokens.float(), ends), goals, dim=-1)


def direction(model: DiffusionModel, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """The mean difference between sentences with and without a concept, with shape :math:`(L, D)`."""
    shown, hidden = (model.encode(texts).tokens.float() for texts in zip(*pairs, strict=True))
    return (shown - hidden).mean(dim=0)


@torch.no_grad()
def text_losses(target: Target, objective: TextObjective, texts: Sequence[str], goals: Tensor) -> Tensor:
    """Losses of what the tokenizer reads in texts, with shape :math:`(N)`, on the CPU.

    Arguments:
        goals: What each is compared with, with shape :math:`(N, ...)`.
    """
    model = target.model
    ids = model.tokenize(texts)
    ends = [len(content(target, row)) + 1 for row in ids.cpu().tolist()]
    last = torch.tensor(ends, device=ids.device)
    embeddings = model.embed(ids[:, : objective.length(max(ends), ids.shape[1])])
    return objective.losses(model.encode_embeddings(embeddings, last).tokens, last, goals).cpu()


def _at(tokens: Tensor, ends: Tensor) -> Tensor:
    return tokens[torch.arange(len(tokens), device=tokens.device), ends]
