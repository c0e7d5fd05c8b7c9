"""CLIP text towers: prompts to tokens to embeddings, in steps that gradients flow through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from unlearn.errors import ConfigError


def tokenize(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """Token ids with shape :math:`(B, L)`, padded to ``length`` as the tokenizer's configuration says.

    Raises:
        ConfigError: Naming the prompts with more than ``length`` tokens.
    """
    ids = tokenizer(list(prompts), padding="max_length", max_length=length, verbose=False)["input_ids"]
    long = [
        f"'{prompt}' ({len(row)} tokens)"
        for prompt, row in zip(prompts, ids, strict=True)
        if len(row) > length
    ]
    if long:
        shown = "; ".join(long[:3]) + (f"; and {len(long) - 3} more" if len(long) > 3 else "")
        raise ConfigError(
            f"prompts: {len(long)} of {len(ids)} are too long for the text encoder, which reads {length} "
            f"tokens (start and end among them): {shown}. Shorten them."
        )
    return torch.tensor(ids, dtype=torch.long)


def run_tower(encoder: Any, embeddings: Tensor) -> Tensor:
    """Runs token embeddings through the tower's own ``forward``, which takes token ids only.

    The tower is called as its library means it to be, with the embeddings in place of what its table gives.
    So masks and attention are the library's business, and the outcome is bit for bit that of ``forward``.

    Arguments:
        encoder: A ``CLIPTextModel`` or ``CLIPTextModelWithProjection``.
        embeddings: Token embeddings without positions, with shape :math:`(B, L, E)`.

    Returns:
        The last hidden states after the final layer norm, with shape :math:`(B, L, E)`.
    """
    table: nn.Module = encoder.get_input_embeddings()
    ids = torch.zeros(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
    hook = table.register_forward_hook(lambda _module, _ids, _rows: embeddings)
    try:
        return cast(Tensor, encoder(input_ids=ids).last_hidden_state)
    finally:
        hook.remove()
