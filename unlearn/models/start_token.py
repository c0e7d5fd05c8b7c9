"""The start token in cross-attention, which means the same in every prompt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from unlearn.models.compiled import uncompiled
from unlearn.models.model import DiffusionModel


@contextmanager
def start_token_detached(model: DiffusionModel) -> Iterator[None]:
    """Takes the start token out of the gradients of cross-attention's keys and values, while the block lasts.

    Its embedding is the same for all prompts and gets most of the attention, so that weights trained on one
    prompt would change what it does for all. Predictions stay as they are, bit for bit.
    """
    with ExitStack() as stack:
        stack.enter_context(uncompiled(model.parts["unet"]))
        for name, module in model.parts["unet"].named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v")):
                stack.callback(module.register_forward_hook(_detach_first).remove)
        yield


def _detach_first(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
    return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1)
