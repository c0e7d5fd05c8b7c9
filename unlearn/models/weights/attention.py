"""What cross-attention looks at, which it would otherwise never write down, and what it makes of that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from torch import Tensor

from unlearn.models.compiled import uncompiled
from unlearn.models.model import DiffusionModel


@contextmanager
def recorded(model: DiffusionModel) -> Iterator[list[Tensor]]:
    """Keeps the probabilities of every cross-attention while the block lasts.

    Yields:
        A list that grows with every forward pass by one tensor for each cross-attention, with shape
        :math:`(B, H, P, L)`: heads, pixels row by row, tokens. Each row over the tokens adds up to 1, and
        gradients flow through them.
    """
    maps: list[Tensor] = []
    modules = _modules(model)
    before = [module.processor for module in modules]
    try:
        for module in modules:
            module.set_processor(_Recorder(maps))
        yield maps
    finally:
        for module, processor in zip(modules, before, strict=True):
            module.set_processor(processor)


@contextmanager
def outputs(model: DiffusionModel) -> Iterator[list[Tensor]]:
    """Keeps what every cross-attention block puts out while the block lasts.

    Yields:
        A list that grows with every forward pass by one tensor for each cross-attention, with shape
        :math:`(B, P, C)`: pixels row by row, channels of its layer. Gradients flow through them.
    """
    found: list[Tensor] = []
    with ExitStack() as stack:
        stack.enter_context(uncompiled(model.parts["unet"]))
        for module in _modules(model):
            hook = module.register_forward_hook(lambda _module, _inputs, output: found.append(output))
            stack.callback(hook.remove)
        yield found


def _modules(model: DiffusionModel) -> list[Any]:
    """The cross-attentions of the denoiser."""
    return [module for name, module in model.parts["unet"].named_modules() if name.endswith("attn2")]


class _Recorder:
    """Attention as diffusers' own ``AttnProcessor`` computes it, in the one case that transformers have."""

    def __init__(self, maps: list[Tensor]) -> None:
        self.maps = maps

    def __call__(
        self,
        attention: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        query, key, value = (
            attention.head_to_batch_dim(states)
            for states in (
                attention.to_q(hidden_states),
                attention.to_k(encoder_hidden_states),
                attention.to_v(encoder_hidden_states),
            )
        )
        probabilities = attention.get_attention_scores(query, key, attention_mask)
        self.maps.append(probabilities.unflatten(0, (-1, attention.heads)))
        states = attention.batch_to_head_dim(probabilities @ value)
        linear, dropout = attention.to_out
        return cast(Tensor, dropout(linear(states)))
