"""What to tell a user whose device has too little memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from unlearn.errors import UnlearnError
from unlearn.methods.method import Method
from unlearn.models.families.sd import StableDiffusion
from unlearn.system.shortage import memory_short, reason

#: Ends of the names of settings that decide how much is held at a time.
AT_A_TIME = ("batch_size", "draws")


@contextmanager
def accounted(method: Method, card: StableDiffusion, device: str) -> Iterator[None]:
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
            f"erase: out of memory on {device} ({reason(error)}). These need less: "
            f"{', '.join(savings(method, card))}."
        ) from error


def savings(method: Method, card: StableDiffusion) -> list[str]:
    """Settings with which an erasure needs less memory, as they are written on the command line."""
    found = dict(_numbers(method, "method"))
    smaller = [
        f"a smaller {key} (now {value})"
        for key, value in sorted(found.items(), key=lambda item: item[0].count("."))  # the method's own first
        if key.endswith(AT_A_TIME) and value > 1
    ]
    if card.dtype == "float32":
        smaller.append("model.dtype=float16 or bfloat16 (what is trained stays in float32)")
    trains = any(key.endswith(".lr") for key in found)
    if trains and not card.checkpointing:
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
