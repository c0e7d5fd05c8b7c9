"""What is warned of: our own, which makes a number doubtful, and what libraries say of themselves.

A user can do nothing about a library's deprecations, so none reaches the terminal: the command line listens
(:func:`listening`), the run folder's log has each of them, and ``results.json`` counts them.
"""

from __future__ import annotations

import inspect
import logging
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from unlearn.errors import UnlearnWarning

PACKAGE = Path(__file__).parents[1]
_PYTHON = Path(sysconfig.get_path("stdlib"))
_LENGTH = 300


class LibraryWarning(TypedDict):
    """Something that a library said while a run went on.

    Attributes:
        library: Who said it, as in ``transformers``; ``python`` for Python's own, and ``unlearn`` where
            compiled code said it that a line of this package had called.
        category: Class of the warning, or level of the line in a log, as in ``FutureWarning`` or ``ERROR``.
        text: What it said, in one line of at most 300 characters.
        count: How often.
    """

    library: str
    category: str
    text: str
    count: int


class _Said(NamedTuple):
    library: str
    category: str
    text: str


_heard: list[Counter[_Said]] = []


def library_warnings() -> list[LibraryWarning]:
    """What libraries have said since :func:`listening` began, in the order of their names."""
    found = sum(_heard, Counter[_Said]())
    return [
        {"library": said.library, "category": said.category, "text": said.text, "count": count}
        for said, count in sorted(found.items())
    ]


@contextmanager
def own_warnings() -> Iterator[list[str]]:
    """Collects this package's own warnings while the block lasts; those of others go on as they came."""
    said: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def take(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if issubclass(category, UnlearnWarning):
                said.append(str(message))
            else:
                show(message, category, *rest, **named)

        warnings.showwarning = take
        yield said


@contextmanager
def listening() -> Iterator[None]:
    """Keeps what libraries warn of and log from the terminal while the block lasts, and counts it.

    What is said at the level of a warning or above is counted, and goes to the log, if there is one. Within
    another such block, this one's is forgotten when it ends.
    """
    heard: Counter[_Said] = Counter()
    with ExitStack() as stack:
        _heard.append(heard)
        stack.callback(_heard.pop)
        stack.enter_context(warnings.catch_warnings())
        if not sys.warnoptions:  # else a user has said what to do with them
            own: list[Any] = [entry for entry in warnings.filters if entry[2] is UnlearnWarning]
            warnings.simplefilter("always")
            for action, _, category, *_ in own:
                warnings.simplefilter(action, category)
        show, factory, root = warnings.showwarning, logging.getLogRecordFactory(), logging.getLogger()

        def take(
            message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any
        ) -> None:
            if issubclass(category, UnlearnWarning):
                show(message, category, filename, *rest, **named)
                return
            heard[_said(library(_raiser()), category.__name__, str(message))] += 1
            logging.getLogger("py.warnings").warning("%s: %s: %s", filename, category.__name__, message)

        def record(name: str, level: int, *rest: Any, **named: Any) -> logging.LogRecord:
            made = factory(name, level, *rest, **named)
            origin = name.split(".")[0]
            if origin not in ("unlearn", "py", "root"):
                if level >= logging.WARNING and heard is _heard[-1]:  # not in an outer block as well
                    heard[_said(origin, made.levelname, _text(made))] += 1
                _take_off_terminal(name, stack)
            return made

        warnings.showwarning = take
        logging.setLogRecordFactory(record)
        stack.callback(logging.setLogRecordFactory, factory)
        silent = logging.NullHandler()  # else Python prints what no handler takes
        root.addHandler(silent)
        stack.callback(root.removeHandler, silent)
        yield


def library(filename: str) -> str:
    """Who a file belongs to: a library, ``python`` or ``unlearn``."""
    path = Path(filename)
    for before, part in pairwise(path.parts):
        if before in ("site-packages", "dist-packages"):
            return part.removesuffix(".py")
    if path.is_relative_to(PACKAGE):
        return PACKAGE.name
    return "python" if path.is_relative_to(_PYTHON) or filename.startswith("<") else path.stem


def _said(origin: str, category: str, text: str) -> _Said:
    line = " ".join(text.split())
    return _Said(origin, category, line if len(line) <= _LENGTH else f"{line[: _LENGTH - 1]}…")


def _text(record: logging.LogRecord) -> str:
    """The text of a line; some libraries hand over arguments that have no place in it, which then go."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        record.args = ()
        return str(record.msg)


def _raiser() -> str:
    """The file of the innermost function that warns, whatever line it has the warning counted to."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename in (__file__, warnings.__file__):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _take_off_terminal(name: str, stack: ExitStack) -> None:
    """Has a library's logger write to the log instead of the terminal.

    Libraries set their loggers up when they are imported, which may be at any time: so it is done when one
    is about to write.
    """
    words = name.split(".")
    for count in range(1, len(words) + 1):
        logger = logging.getLogger(".".join(words[:count]))
        handlers = [each for each in logger.handlers if getattr(each, "stream", None) in _terminals()]
        for handler in handlers:
            logger.removeHandler(handler)
            stack.callback(logger.addHandler, handler)
        if handlers and not logger.propagate:
            logger.propagate = True
            stack.callback(setattr, logger, "propagate", False)


def _terminals() -> tuple[Any, ...]:
    return sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__
