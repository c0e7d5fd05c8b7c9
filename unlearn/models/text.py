"""CLIP text towers: prompts to tokens to embeddings, in steps that gradients flow through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def tower(encoder: nn.Module) -> Any:
    """The transformer within a ``CLIPTextModel`` or a ``CLIPTextModelWithProjection``."""
    return getattr(encoder, "text_model", encoder)


def run_tower(encoder: nn.Module, embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Runs token embeddings through the tower, as its own ``forward`` does with token ids.

    Arguments:
        encoder: A ``CLIPTextModel`` or ``CLIPTextModelWithProjection``.
        embeddings: Token embeddings without positions, with shape :math:`(B, L, E)`.

    Returns:
        The last hidden states after the final layer norm, and the input of the last layer, which SDXL reads;
        both with shape :math:`(B, L, E)`.
    """
    from transformers.masking_utils import create_causal_mask

    text = tower(encoder)
    hidden = text.embeddings(inputs_embeds=embeddings)
    mask = create_causal_mask(
        config=text.config, inputs_embeds=hidden, attention_mask=None, past_key_values=None
    )
    penultimate = hidden
    for layer in text.encoder.layers:
        penultimate = hidden
        hidden = layer(hidden, mask, is_causal=True)
    return text.final_layer_norm(hidden), penultimate
