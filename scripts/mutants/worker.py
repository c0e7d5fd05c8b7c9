"""A process that has imported the libraries, and forks for every call of pytest.

It is started in the root of a copy of the tree. It reads a call as a line of JSON (``arguments`` of pytest,
the ``seconds`` that they may take, the ``files`` to record, if any) and answers with one: the ``code`` that
pytest ended with (None if time was over, negative if a signal ended it), what was ``recorded`` and ``said``.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

SAID, RECORDED = "said.txt", "recorded.json"


def main(preload: list[str], folder: Path) -> None:
    """Answers until nothing more is asked.

    Arguments:
        preload: Modules to import first; those that the tree lacks or that are not installed are left out.
        folder: For what pytest says and what is recorded.
    """
    for name in preload:
        with suppress(ImportError):
            importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        (folder / RECORDED).unlink(missing_ok=True)
        child = os.fork()
        if not child:
            _pytest(asked, folder)
        answer: dict[str, Any] = {"code": _waited(child, asked["seconds"]), "recorded": None}
        if asked["files"] and (folder / RECORDED).exists():
            answer["recorded"] = json.loads((folder / RECORDED).read_text())
        answer["said"] = (folder / SAID).read_text(errors="replace")[-20_000:]
        print(json.dumps(answer), file=answers, flush=True)


def _waited(child: int, seconds: float) -> int | None:
    """The exit code of a child; None if it had to be killed."""
    watched = os.pidfd_open(child)
    try:
        over = bool(select.select([watched], [], [], seconds)[0])
    finally:
        os.close(watched)
    with suppress(ProcessLookupError):  # all that it has started goes with it
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if over else None


def _pytest(asked: dict[str, Any], folder: Path) -> None:
    """In the child: ends with it."""
    os.setsid()
    said = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, to in enumerate((null, said, said)):
        os.dup2(to, number)
    code = 70
    try:
        import pytest

        from scripts.mutants.recorder import Recorder

        root = str(Path.cwd())
        recorder = Recorder({f"{root}/{file}": file for file in asked["files"]})
        plugins = [recorder] if asked["files"] else []
        code = int(
            pytest.main([*asked["arguments"], "-p", "no:cacheprovider", f"--basetemp={folder}/tmp"], plugins)
        )
        here = sys.modules.get("unlearn")
        if here is not None and not str(here.__file__).startswith(root):
            code = 70
            print(f"the tests ran {here.__file__}, not the copy in {root}", flush=True)
        if asked["files"]:
            (folder / RECORDED).write_text(json.dumps(recorder.tests))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[2:], Path(sys.argv[1]))
