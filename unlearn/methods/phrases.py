"""Phrases in their sentences, and where their tokens stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts.concept import Concept
from unlearn.errors import ConfigError
from unlearn.models.model import DiffusionModel


@dataclass(frozen=True)
class Phrase:
    """One phrase to erase, in :math:`S` sentences.

    Attributes:
        name: What tells it from all others of its run.
        sentences: Sentences that hold it.
        anchored: The same with its anchor in its place.
        shared: For each sentence, the positions of the tokens that it shares with the anchored one, in both.
        own: The phrase's own tokens in each sentence, with shape :math:`(S, L)`, bool.
        after: The end token and the padding of each sentence, with shape :math:`(S, L)`, bool.
    """

    name: str
    sentences: Sequence[str]
    anchored: Sequence[str]
    shared: Sequence[tuple[list[int], list[int]]]
    own: Tensor
    after: Tensor


def phrases(model: DiffusionModel, name: str, concept: Concept) -> list[Phrase]:
    """Every phrase of a concept in all of its sentences.

    Raises:
        ConfigError: If a sentence has too many tokens, or does not hold its phrase token by token.
    """
    pairs = concept.sentence_pairs()
    each = len(pairs) // len(concept.phrases)
    end = model.tokenizer.eos_token_id
    found = []
    for i, phrase in enumerate(concept.phrases):
        sentences, anchored = (list(texts) for texts in zip(*pairs[i * each : (i + 1) * each], strict=True))
        old, new = model.tokenize(sentences).tolist(), model.tokenize(anchored).tolist()
        (ids,) = model.tokenize([phrase]).tolist()
        own = torch.zeros(each, model.max_tokens, dtype=torch.bool)
        after = torch.zeros_like(own)
        for row, sentence in enumerate(old):
            stands = positions(sentence, ids[1 : ids.index(end)])
            if not stands:
                raise ConfigError(
                    f"concept.erase.{name}: the tokens of '{phrase}' are not in the sentence "
                    f"'{sentences[row]}'. Set a blank between them and what is beside them."
                )
            own[row, stands] = True
            after[row, sentence.index(end) :] = True
        shared = [aligned(a, b, end) for a, b in zip(old, new, strict=True)]
        found.append(
            Phrase(
                name=f"{name}: {phrase}",
                sentences=sentences,
                anchored=anchored,
                shared=shared,
                own=own.to(model.device),
                after=after.to(model.device),
            )
        )
    return found


def positions(sentence: Sequence[int], phrase: Sequence[int]) -> list[int]:
    """Where the tokens of ``phrase`` stand in a sentence, every time that it is said."""
    starts = [i for i in range(len(sentence)) if list(sentence[i : i + len(phrase)]) == list(phrase)]
    return sorted({i + k for i in starts for k in range(len(phrase))})


def aligned(old: Sequence[int], new: Sequence[int], end: int) -> tuple[list[int], list[int]]:
    """Positions of the tokens that two sentences share: what comes before a phrase, and what comes after.

    Sentences are compared from both sides up to their end token. The paddings after it count as shared, as
    many as both have.

    Arguments:
        old: Token ids of one sentence, padded.
        new: Of the other one.
        end: The end token.

    Returns:
        Two lists of one length: none of the phrases' own tokens, the start token first.
    """
    first, second = (list(ids[: list(ids).index(end) + 1]) for ids in (old, new))
    shorter = min(len(first), len(second))
    start = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    same = 0
    while same < shorter - start and first[-1 - same] == second[-1 - same]:
        same += 1
    padding = len(old) - max(len(first), len(second))
    return (
        [*range(start), *range(len(first) - same, len(first) + padding)],
        [*range(start), *range(len(second) - same, len(second) + padding)],
    )
