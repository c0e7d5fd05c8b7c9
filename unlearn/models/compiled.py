"""Compiled networks, and when they run as they were written."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

_compiled: WeakSet[nn.Module] = WeakSet()


def compile_in_place(module: nn.Module) -> None:
    """Has a module compiled when it is called."""
    module.compile()
    _compiled.add(module)


def uncompiled(module: nn.Module | None) -> AbstractContextManager[Any]:
    """Runs the module as it was written while the block lasts, for whoever hooks into it.

    Compiled code has the hooks that there were when it was made: torch does not look at them again, so that
    guards and adapters would do nothing, or go on when they are gone. A module that was not compiled runs as
    ever.
    """
    return torch.compiler.set_stance("force_eager") if module in _compiled else nullcontext()
