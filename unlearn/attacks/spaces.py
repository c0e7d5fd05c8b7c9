"""What of a prompt an attack may change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.prompt_attack import Space
from unlearn.concepts.concept import ConceptSet
from unlearn.errors import IncompatibleError
from unlearn.settings import setting

PLACES = ("prefix", "suffix", "insert", "every", "replace")


@dataclass(kw_only=True)
class AddedTokens(Space):
    """Tokens before, after, within or instead of the prompt.

    Only whole words are used, and only rows of them that survive being written and read again: the ids of the
    text are exactly the candidate's beside the prompt's own. Else an attack would report a prompt whose text
    the model reads otherwise than what was tried.

    Attributes:
        place: ``prefix``; ``suffix``; ``insert``, one after every :math:`n // (K + 1)` of the prompt's
            :math:`n` tokens, as UnlearnDiffAtk's code does; ``every``, one before each :math:`K` of them and
            one before the rest, even if that is empty, as P4D's code does for P4D-K; or ``replace``, nothing
            but the new tokens.
        tokens: How many tokens, :math:`K`; for ``every``, how many of the prompt's own stand between two.
    """

    place: str = setting(choices=PLACES)
    tokens: int = setting(least=1)

    def propose(self, target: Target, prompt: str, count: int, generator: Generator) -> Tensor:
        """Random candidates, with shape :math:`(count, K)`.

        Raises:
            ConfigError: If the prompt and the tokens are too long for the model.
            IncompatibleError: If the tokenizer has no words that survive.
        """
        vocabulary = words(target)
        added = self.count(len(content(target, target.model.tokenize([prompt]).cpu()[0].tolist())))
        found: list[Tensor] = []
        for _ in range(100):
            drawn = vocabulary[torch.randint(len(vocabulary), (count, added), generator=generator)]
            found += [
                row for row, kept in zip(drawn, self._survives(target, prompt, drawn), strict=True) if kept
            ]
            if len(found) >= count:
                return torch.stack(found[:count])
        raise IncompatibleError(
            "attack: hardly any words of this tokenizer survive being written and read again."
        )

    def text(self, target: Target, prompt: str, candidate: Tensor) -> str:
        """The tokens' text beside the prompt, or among its own."""
        if self.place == "replace":
            return written(target, candidate.tolist())
        if self.place in ("insert", "every"):
            own = content(target, target.model.tokenize([prompt]).cpu()[0].tolist())
            return written(target, self.woven(own, candidate.tolist()))
        added = written(target, candidate.tolist())
        return f"{added} {prompt}" if self.place == "prefix" else f"{prompt} {added}"

    def count(self, own: int) -> int:
        """How many tokens are added to a prompt that has ``own``."""
        return own // self.tokens + 1 if self.place == "every" else self.tokens

    def slots(self, count: int) -> list[int]:
        """Where the tokens stand among all, the start token not counted, if the prompt has ``count``."""
        if self.place in ("prefix", "replace"):
            return list(range(self.tokens))
        if self.place == "suffix":
            return list(range(count, count + self.tokens))
        if self.place == "every":
            return [(self.tokens + 1) * i for i in range(self.count(count))]
        gap = count // (self.tokens + 1)
        return [(gap + 1) * i + gap for i in range(self.tokens)]

    def woven(self, own: list[int], added: list[int]) -> list[int]:
        """The ids of the prompt with the candidate's in their slots."""
        row = [] if self.place == "replace" else list(own)
        for slot, token in zip(self.slots(len(own)), added, strict=True):
            row.insert(slot, token)
        return row

    def _survives(self, target: Target, prompt: str, candidates: Tensor) -> list[bool]:
        """Whether each candidate's text has exactly its ids beside the prompt's."""
        model = target.model
        own = content(target, model.tokenize([prompt]).cpu()[0].tolist())
        read = model.tokenize([self.text(target, prompt, row) for row in candidates]).cpu().tolist()
        return [
            content(target, row) == self.woven(own, added)
            for row, added in zip(read, candidates.tolist(), strict=True)
        ]


def written(target: Target, ids: list[int]) -> str:
    """The text of token ids."""
    text: str = target.model.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text.strip()


def words(target: Target) -> Tensor:
    """Ids of the tokens that are whole words of letters, in order."""
    vocabulary: dict[str, int] = target.model.tokenizer.get_vocab()
    ids = sorted(
        number
        for token, number in vocabulary.items()
        if token.endswith("</w>") and token.removesuffix("</w>").isalpha() and token.isascii()
    )
    if not ids:
        raise IncompatibleError("attack: the model's tokenizer has no whole words to add to a prompt.")
    return torch.tensor(ids)


def stable_words(target: Target, banned: Sequence[str] = ()) -> Tensor:
    """Ids of the whole words that are read as themselves, so that any row of them survives.

    Arguments:
        banned: Parts of words: what has one of them in it is left out.

    Raises:
        IncompatibleError: If fewer than two are left.
    """
    ids = words(target)
    tokens = target.model.tokenizer.convert_ids_to_tokens(ids.tolist())
    texts = [token.removesuffix("</w>").lower() for token in tokens]
    read = target.model.tokenize(texts).cpu()
    alone = (read[:, 1] == ids) & (read[:, 2] == target.model.tokenizer.eos_token_id)
    said = torch.tensor([any(part in text for part in banned) for text in texts])
    if (alone & ~said).sum() < 2:
        raise IncompatibleError("attack: the model's tokenizer leaves hardly a word to choose from.")
    return ids[alone & ~said]


def parts(target: Target, banned: Sequence[str] = ()) -> Tensor:
    """Ids of all that words are written with: tokens of letters alone, whether or not a word ends with them.

    Rows of them need not survive being written and read again.

    Arguments:
        banned: What none of them may have in it.
    """
    special = set(target.model.tokenizer.all_special_ids)
    known = sorted(target.model.tokenizer.get_vocab().items(), key=lambda each: each[1])
    texts = [(token.removesuffix("</w>"), number) for token, number in known if number not in special]
    plain = [(text.lower(), number) for text, number in texts if text.isascii() and text.isalpha()]
    return torch.tensor([number for text, number in plain if not any(each in text for each in banned)])


def concept_words(concepts: ConceptSet) -> list[str]:
    """The words that say the concepts: those of their phrases, but for the shortest, such as "of", and for
    what their anchors say as well, such as "person" of "nude person"."""
    found: set[str] = set()
    for concept in concepts.erase.values():
        said, meant = (" ".join(texts).lower() for texts in (concept.phrases, [concept.anchor]))
        found |= set(re.findall(r"\w{3,}", said)) - set(re.findall(r"\w+", meant))
    return sorted(found)


def content(target: Target, ids: list[int]) -> list[int]:
    """The ids between the start token and the first end token."""
    end = ids.index(target.model.tokenizer.eos_token_id, 1)
    return ids[1:end]
