"""Work on batches that may not fit into memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

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
            RuntimeError: If a single row does not fit.
        """
        start = 0
        while start < len(rows):
            part = rows[start : start + self.size]
            try:
                result = work(part)
            except RuntimeError as error:  # torch has a class for CUDA's, and none for those of other devices
                if "out of memory" not in str(error).lower() or len(part) == 1:
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
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
