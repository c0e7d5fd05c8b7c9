"""Giving back the memory of a job that is done, so that a long sweep needs no more than its largest job."""

from __future__ import annotations

import ctypes
import gc
import traceback
from contextlib import suppress


def forget(error: BaseException) -> None:
    """Lets go of the variables of all calls that an error came through, and those of the errors it came of.

    Whoever keeps the error keeps them, too: the networks of a job that has failed, say.
    """
    here: BaseException | None = error
    while here is not None:
        traceback.clear_frames(here.__traceback__)
        here = here.__cause__ or here.__context__


def give_back() -> None:
    """Frees what only cycles of references hold, and returns to the system what the allocator has kept.

    The C library keeps what was freed between blocks that are still in use, and takes more for the next job;
    where it cannot be told to let go of that (macOS, musl), nothing more is done.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
