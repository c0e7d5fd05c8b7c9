"""What to tell a user whose device has too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from unlearn.config.schemas import RunConfig
from unlearn.errors import UnlearnError
from unlearn.system.shortage import memory_short, reason

#: Ends of the names of settings that decide how much is held at a time.
AT_A_TIME = ("batch_size", "draws")


@contextmanager
def accounted(config: RunConfig) -> Iterator[None]:
    """Erases within the memory that there is, or says which settings need less.

    Raises:
        UnlearnError: If the device's memory does not suffice.
    """
    try:
        yield
    except (RuntimeError, OSError, MemoryError) as error:
        if not memory_short(error):
            raise
        raise UnlearnError(
            f"erase: out of memory on {config.device} ({reason(error)}). These need less: "
            f"{', '.join(savings(config))}."
        ) from error


def savings(config: RunConfig) -> list[str]:
    """Settings with which an erasure needs less memory, as they are written on the command line."""
    found = dict(_numbers(config.method, "method"))
    smaller = [
        f"a smaller {key} (now {value})"
        for key, value in found.items()
        if key.endswith(AT_A_TIME) and value > 1
    ]
    if config.model.dtype == "float32":
        smaller.append("model.dtype=float16 or bfloat16 (what is trained stays in float32)")
    trains = any(key.endswith(".lr") for key in found)
    if trains and not config.model.checkpointing:
        smaller.append("model.checkpointing=true")
    return smaller or ["a smaller model, or another method"]


def _numbers(component: Any, path: str) -> Iterator[tuple[str, float]]:
    """The numbers in a component and those within it, by their keys."""
    if is_dataclass(component):
        for part in fields(component):
            yield from _numbers(getattr(component, part.name), f"{path}.{part.name}")
    elif isinstance(component, dict):
        for name, value in component.items():
            yield from _numbers(value, f"{path}.{name}")
    elif isinstance(component, int | float) and not isinstance(component, bool):
        yield path, component
