"""The attack within AdvUnlearn: token embeddings that make a model show what it was trained not to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from unlearn.attacks.embedding.descent import Descent
from unlearn.errors import ConfigError
from unlearn.models.model import DiffusionModel
from unlearn.settings import setting

PLACES = ("prefix", "add")
STARTS = ("random", "prompt", "latest")
INDICES = ("exact", "whitespace")


@dataclass(frozen=True)
class Slots:
    """Sentences with room for a perturbation.

    Attributes:
        plain: Token ids of the sentences, with shape :math:`(P, L)`.
        ids: The same with room for the perturbation, with shape :math:`(P, L)`.
        counts: How many tokens the sentences have, with shape :math:`(P,)`.
        taken: Which of the :math:`k` positions after the start token the perturbation takes, with shape
            :math:`(P, k, 1)`, bool.
    """

    plain: Tensor
    ids: Tensor
    counts: Tensor
    taken: Tensor

    def __getitem__(self, rows: Tensor) -> Slots:
        return Slots(*(getattr(self, part.name)[rows] for part in fields(self)))


@dataclass(kw_only=True)
class SoftPrompt(Descent):
    r"""Looks for token embeddings :math:`\delta` that bring back what the original model does with a concept.

    The loss of a perturbation is given by who uses it; AdvUnlearn takes

    .. math:: \| \epsilon_\theta(x_t, t, E_\theta([\delta; c])) - \epsilon_\phi(x_t, t, E_\phi(c)) \|^2

    on fresh :math:`x_t, t` in each step. The perturbation is unbounded, but by the number and the length of
    its steps: each is one of Adam, on the gradient or, with ``rule: sign``, on its sign. A single one of the
    latter is the fast gradient sign method. The authors call them ``pgd`` and ``fast_at``.

    Attributes:
        place: ``prefix``: the perturbation is :math:`k` tokens between the start token and the sentence;
            ``add``: it is added to the sentence's own tokens.
        tokens: :math:`k`, for ``prefix``.
        index: Where a sentence ends: ``exact``, by the tokenizer, or ``whitespace``, after as many tokens as
            it has words, as released. Tokens that are pushed out of their place then are lost: of the two of
            "nudity", the second.
        start: ``random``: embeddings of random tokens, none of them special; ``prompt``: of the sentence's
            first tokens, or 0 for ``add``; ``latest``: where the last attack ended.
        rule: ``adam`` or ``sign``.
        steps: Steps of an attack.
        lr: Length of a step in each coordinate, about.
        draws: Latents in each step for each sentence.
        every: Training steps for which one attack is used.
        accumulate: Never clear the gradient, so that each step takes the sum of all so far, as released.
        stale: Return the perturbation as it was before the last step, as released.
    """

    place: str = setting(choices=PLACES)
    tokens: int = setting(least=1)
    index: str = setting(choices=INDICES)
    start: str = setting(choices=STARTS)
    draws: int = setting(least=1)
    every: int = setting(least=1)

    def slots(self, model: DiffusionModel, sentences: Sequence[str]) -> Slots:
        """Makes room for a perturbation in each of :math:`P` sentences.

        Raises:
            ConfigError: If a sentence is too long for it.
        """
        plain, end = model.tokenize(sentences), model.tokenizer.eos_token_id
        rows, counts, taken = [], [], []
        for sentence, ids in zip(sentences, plain, strict=True):
            count = ids.tolist().index(end, 1) - 1 if self.index == "exact" else len(sentence.split())
            added = self.tokens if self.place == "prefix" else count
            if self.place == "prefix" and count + added + 2 > len(ids):
                raise ConfigError(
                    f"method.attack.tokens: '{sentence}' has no room for {added} more, for the text encoder "
                    f"reads {len(ids)} tokens, and {count + 2} of them are taken."
                )
            head, body, moved, tail = ids.split([1, count, added, len(ids) - 1 - count - added])
            first = moved if self.place == "prefix" else body
            rest = [body, tail] if self.place == "prefix" else [tail[:1].expand(added), tail]
            rows.append(torch.cat([head, first, *rest]))
            counts.append(count)
            taken.append(added)
        device = plain.device
        own = torch.tensor(taken, device=device)
        return Slots(
            plain=plain,
            ids=torch.stack(rows),
            counts=torch.tensor(counts, device=device),
            taken=(torch.arange(max(taken), device=device) < own[:, None])[..., None],
        )

    def embed(self, model: DiffusionModel, slots: Slots, perturbation: Tensor) -> Tensor:
        """Token embeddings of the sentences under a perturbation, with shape :math:`(B, L, E)`.

        Arguments:
            slots: Of :math:`B` sentences.
            perturbation: :math:`\\delta`, with shape :math:`(B, k, E)`.
        """
        embedded = model.embed(slots.ids)
        last = 1 + slots.taken.shape[1]
        own = embedded[:, 1:last]
        placed = perturbation if self.place == "prefix" else own + slots.taken * perturbation
        return torch.cat([embedded[:, :1], placed, embedded[:, last:]], dim=1)

    @torch.no_grad()
    def begin(self, model: DiffusionModel, slots: Slots, latest: Tensor | None, random: Generator) -> Tensor:
        """Where an attack on :math:`B` sentences starts, with shape :math:`(B, k, E)`.

        Arguments:
            latest: Where the last one ended; None if this is the first.
        """
        if self.start == "latest" and latest is not None:
            return latest
        rows, width = slots.taken.shape[:2]
        if self.start == "prompt":
            turn = torch.arange(width, device=slots.ids.device) % slots.counts[:, None]
            own = model.embed(slots.plain.gather(1, 1 + turn))
            return own if self.place == "prefix" else torch.zeros_like(own)
        special = set(model.tokenizer.all_special_ids)
        ordinary = torch.tensor([i for i in range(len(model.tokenizer)) if i not in special])
        drawn = ordinary[torch.randint(len(ordinary), (rows, width), generator=random)]
        return model.embed(drawn.to(slots.ids.device))
