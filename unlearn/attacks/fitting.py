"""Work on batches that may not fit into memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def fitting(rows: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[tuple[Sequence[T], R]]:
    """Works on all rows at once; where memory does not suffice, on halves, and says so.

    Arguments:
        work: Gives the same for a row whatever others are in its batch.

    Raises:
        RuntimeError: If a single row does not fit.
    """
    size, start = len(rows), 0
    while start < len(rows):
        part = rows[start : start + size]
        try:
            result = work(part)
        except RuntimeError as error:  # torch has a class for CUDA's, and none for those of other devices
            if "out of memory" not in str(error).lower() or len(part) == 1:
                raise
        else:
            yield part, result
            start += len(part)
            continue
        # Only here are the tensors gone that the traceback of the error held.
        size = len(part) // 2
        print(f"attack: out of memory with {len(part)} at once; goes on with {size}.", file=sys.stderr)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
