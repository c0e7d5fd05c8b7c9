"""Whether an error says that there was too little memory, whichever device says so."""

from __future__ import annotations

WORDS = (
    "out of memory",  # CUDA, MPS, XPU
    "can't allocate memory",  # torch's allocator of the CPU
    "cannot allocate memory",  # the system's ENOMEM
    "not enough memory",  # the same allocator on Windows
    "std::bad_alloc",  # C++ below torch, onnxruntime and others
    "bad allocation",  # the same on Windows
    "failed to allocate memory",  # onnxruntime's arena
    "unable to allocate",  # numpy
)
"""What errors of too little memory have in their messages, in small letters."""


def memory_short(error: BaseException) -> bool:
    """Whether ``error`` is one of too little memory, on a GPU or on the CPU.

    Only torch's CUDA has a class of its own for it, which is a RuntimeError like those of other devices; what
    is no RuntimeError, OSError or MemoryError may speak of memory without lacking it.
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(word in text for word in WORDS)


def reason(error: BaseException) -> str:
    """What ``error`` says, in a line; its class if it says nothing, as Python's own does."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
