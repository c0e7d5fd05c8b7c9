"""Stopping when a signal asks for it, at a moment that loses nothing.

The first SIGINT, SIGTERM or SIGHUP raises :class:`Stopped` where the work stands: all that is written appears
whole or not at all, so that nothing is lost but what was in hand. Work that is better brought to an end, such
as a training step and its checkpoint, is done within :func:`finishing`, and asks there whether it is to stop.
A second SIGINT ends the process at once. Nothing is installed but by :func:`listening`, which the command
line calls: a program that imports this package keeps its own handlers.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

#: Signals that ask a process to stop; SIGHUP is sent when its terminal is closed.
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds within which a second SIGINT is the first one, passed on twice by a wrapper such as timeout(1).
ECHO = 0.1


class Stopped(KeyboardInterrupt):
    """A signal has asked the process to stop.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _State:
    """What was asked for so far.

    Attributes:
        asked: The signal that asks to stop, or None.
        since: When it came, on the monotonic clock.
        depth: How many blocks of work in a row are to be finished first.
    """

    asked: int | None = None
    since: float = 0.0
    depth: int = 0


_state = _State()


@contextmanager
def listening() -> Iterator[None]:
    """Takes the signals while the block lasts; a signal that is ignored, as under nohup, stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.asked = None
    before = {number: signal.getsignal(number) for number in ASKING}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _asked)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number] or signal.SIG_DFL)
        _state.asked = None


@contextmanager
def finishing() -> Iterator[None]:
    """Work that a first signal does not break off.

    Long work asks :func:`wanted` at moments that suit it, and calls :func:`check` there.

    Raises:
        Stopped: At the end of the block, if a signal has asked to stop within it.
    """
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    check()


def wanted() -> bool:
    """Whether a signal has asked to stop."""
    return _state.asked is not None


def check() -> None:
    """Raises :class:`Stopped` if a signal has asked to stop."""
    if _state.asked is not None:
        raise Stopped(_state.asked)


def _asked(number: int, _frame: FrameType | None) -> None:
    first = _state.asked is None
    if first:
        _state.asked, _state.since = number, time.monotonic()
        if not _state.depth:
            raise Stopped(number)
        _say(f"{signal.Signals(number).name}: stopping after the step in hand (Ctrl-C again: at once).")
    elif number == signal.SIGINT and time.monotonic() - _state.since > ECHO:
        os._exit(128 + number)


def _say(text: str) -> None:
    """Says it without the lock of a stream, which the work that was interrupted may hold."""
    with suppress(OSError):  # with its terminal closed, a process has nowhere to say anything
        os.write(2, f"unlearn: {text}\n".encode())
