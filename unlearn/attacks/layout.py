"""Where in a prompt's embeddings the words of a candidate stand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.attacks.attack import Target
from unlearn.attacks.spaces import AddedTokens, content
from unlearn.seeding import generator as seeded


@dataclass(frozen=True)
class Layout:
    """Where the added tokens of one prompt stand.

    Attributes:
        embeddings: Of all its tokens, any in the added ones' places, with shape :math:`(L, E)`.
        places: Of the added tokens, with shape :math:`(K)`.
        end: Of the end token.
    """

    embeddings: Tensor
    places: Tensor
    end: int

    @staticmethod
    def of(target: Target, space: AddedTokens, prompt: str) -> Layout:
        """The layout of ``prompt``, in the embeddings of the model as it is now: within
        :meth:`Target.erased` the erased one's.

        Raises:
            ConfigError: If the prompt and the tokens are too long for the model.
        """
        model = target.model
        own = content(target, model.tokenize([prompt]).cpu()[0].tolist())
        (example,) = space.propose(target, prompt, 1, seeded(0, "layout"))
        ids = model.tokenize([space.text(target, prompt, example)])
        places = torch.tensor(space.slots(len(own)), device=ids.device) + 1
        end = 1 + len(space.woven(own, example.tolist()))
        return Layout(model.embed(ids)[0].detach(), places, end)
