"""Concept erasure in text-to-image diffusion models: erase, attack, measure."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn.api import configure, erase, evaluate, load_model

__version__ = "0.1.0.dev0"
__all__ = ["configure", "erase", "evaluate", "load_model"]


def __getattr__(name: str) -> Any:
    # The functions bring torch with them, and `unlearn --help` must not wait for it.
    if name in __all__:
        from unlearn import api

        return getattr(api, name)
    raise AttributeError(f"module 'unlearn' has no attribute '{name}'")
