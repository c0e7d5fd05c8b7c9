"""Work on batches that may not fit into memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from unlearn.system.shortage import memory_short

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Fitting:
    """Works on so many rows at a time; where memory does not suffice, on half from then on, and says so.

    Attributes:
        size: How many.
    """

    size: int

    def over(self, rows: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[R]:
        """What ``work`` gives for one part of the rows after another.

        Arguments:
            work: Gives the same for a row whatever others are in its part.

        Raises:
            RuntimeError, MemoryError: If a single row does not fit.
        """
        start = 0
        while start < len(rows):
            part = rows[start : start + self.size]
            try:
                result = work(part)
            except (RuntimeError, OSError, MemoryError) as error:
                if not memory_short(error) or len(part) == 1:
                    raise
            else:
                yield result
                start += len(part)
                continue
            # Only here are the tensors gone that the traceback of the error held.
            self.size = len(part) // 2
            print(
                f"attack: out of memory with {len(part)} at once; goes on with {self.size}.", file=sys.stderr
            )
            if torch.accelerator.is_available():
                torch.accelerator.empty_cache()
