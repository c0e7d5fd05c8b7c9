"""Patience with the network: what does not answer in time is taken for not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

#: Seconds that a server has to answer.
PATIENCE = 10.0

Found = TypeVar("Found")


def within(seconds: float, call: Callable[[], Found]) -> Found:
    """What ``call`` gives or raises.

    It runs in a thread that is left behind if it takes too long: a library's own limit is one of each
    attempt, and none at all where a name server does not answer.

    Raises:
        TimeoutError: If there is nothing after so many seconds.
    """
    found: list[Found] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(call())
        except Exception as error:  # raised again below, by the thread that waits for it
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return found[0]


def silent(url: str, seconds: float = PATIENCE) -> str | None:
    """Why the server of ``url`` does not serve: it cannot be reached, is mute, or fails; else None."""

    def ask() -> None:
        urlopen(url, timeout=seconds).close()  # what it would send is not read

    try:
        within(seconds, ask)
    except HTTPError as error:
        return f"HTTP {error.code}" if error.code >= 500 else None  # it is there, and asks for a login, say
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", "") or error)
    return None


@contextmanager
def limited() -> Iterator[None]:
    """A socket that is opened within the block and says nothing for too long is given up."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def patient() -> Iterator[None]:
    """Downloads within the block give up in time, where libraries would wait for minutes or for ever.

    Raises:
        ConnectionError: If the block fails while the Hugging Face hub does not answer.
    """
    from huggingface_hub import constants

    off = constants.HF_HUB_OFFLINE
    problem = None if off else silent(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = off or problem is not None  # its cache answers at once then
    try:
        with limited():
            yield
    except Exception as error:
        if problem is None:
            raise
        raise ConnectionError(f"{constants.ENDPOINT}: {problem}") from error
    finally:
        constants.HF_HUB_OFFLINE = off
