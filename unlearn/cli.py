"""The ``unlearn`` command: which of its words does what, and how each ends.

Nothing here imports torch or Hydra, so that help and completion answer at once; each command imports what it
needs when it is called.
"""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from unlearn import __version__
from unlearn.commands import COMMANDS
from unlearn.errors import ConfigError, IncompatibleError, UnlearnError
from unlearn.system import stopping
from unlearn.system.confidential import redacted
from unlearn.system.heard import listening
from unlearn.system.shortage import memory_short, reason
from unlearn.system.writing import explained

USER_ERROR, FAILURE, STOPPED = 2, 1, 128


def main(argv: Sequence[str] | None = None) -> None:
    """Runs ``unlearn`` and exits.

    The code is 0, 2 for a user's mistake, 1 for a failure, and where a signal has stopped it 128 and the
    signal's number: 130 for Ctrl-C, 143 for SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    again = shlex.join([*(_program() if argv is None else ["unlearn"]), *words])
    try:
        with stopping.listening(), listening():
            code = _call(words)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILURE
    except KeyboardInterrupt as stop:
        code = _stopped(stop, again, words[:1] == ["run"])
    except (
        Exception
    ) as error:  # the edge of the program: whatever it is, it ends in one line and an exit code
        code = explain(error)
    sys.exit(code)


def explain(error: Exception) -> int:
    """Says on stderr what went wrong, with a traceback only where it is nothing that a user could mend.

    Returns:
        The exit code.
    """
    if isinstance(error, UnlearnError):
        _say(str(error))
        return USER_ERROR if isinstance(error, ConfigError | IncompatibleError) else FAILURE
    if isinstance(error, OSError) and (why := explained(error)):
        _say(why)
    elif _disk_full(error):
        where = getattr(error, "filename", None) or Path.cwd()
        _say(f"no space left on the device of {where}. Make room, and the same command goes on from here.")
    elif memory_short(error):
        _say(f"out of memory ({reason(error)}). A smaller batch_size of the sampler needs less.")
    else:
        sys.stderr.write(redacted("".join(traceback.format_exception(error))))
        _say(f"failed: {type(error).__name__}: {error}".splitlines()[0])
    return FAILURE


def _call(words: list[str]) -> int:
    if words[:1] == ["run"]:  # Hydra reads the rest
        return int(import_module("unlearn.commands.run").main(words[1:]) or 0)
    if words[:1] == ["complete"]:
        return int(import_module("unlearn.commands.completion").complete(words[1:]) or 0)
    arguments = _parser(words[:1]).parse_args(words or ["--help"])
    return int(import_module(f"unlearn.commands.{arguments.command}").main(arguments) or 0)


def _stopped(stop: KeyboardInterrupt, again: str, resumes: bool) -> int:
    """Says how to go on, where the command keeps what it has done, or how to begin again.

    Returns:
        The exit code.
    """
    number = stop.number if isinstance(stop, stopping.Stopped) else signal.SIGINT
    then = "Nothing is lost, and this goes on" if resumes else "This begins again"
    with suppress(OSError):  # where the terminal is closed, nobody reads it
        _say(f"stopped by {signal.Signals(number).name}. {then}: {again}")
    return STOPPED + number


def _program() -> list[str]:
    """The words that a shell finds this program by."""
    called = Path(sys.argv[0])
    if called.suffix == ".py":
        return [
            sys.executable,
            *(["-m", "unlearn.cli"] if called.resolve() == Path(__file__) else [str(called)]),
        ]
    found = shutil.which(called.name)
    return [called.name if found and Path(found).resolve() == called.resolve() else str(called)]


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unlearn",
        description="Erase concepts from text-to-image diffusion models, and measure what is left.",
        epilog="unlearn COMMAND --help says more. To begin with: unlearn run",
    )
    parser.add_argument("--version", action="version", version=f"unlearn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if [name] == list(words):
            import_module(f"unlearn.commands.{name}").arguments(command)
    return parser


def _disk_full(error: BaseException | None) -> bool:
    """Whether ``error`` or what caused it came of a full disk; libraries tell it in ways of their own."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(
            error
        ):
            return True
        error = error.__cause__ or error.__context__
    return shutil.disk_usage(Path.cwd()).free < 2**20


def _say(text: str) -> None:
    print(f"unlearn: {redacted(text)}", file=sys.stderr)


if __name__ == "__main__":
    main()
