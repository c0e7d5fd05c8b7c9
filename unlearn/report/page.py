"""Filling the templates of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from unlearn.errors import ConfigError
from unlearn.report import plots, wording
from unlearn.system.writing import write

SIGN = """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:"""
"""Stands in every page that this package writes."""


def fill(template: str, path: Path, **values: Any) -> Path:
    """Writes the page that a template makes of ``values``, whole or not at all."""
    return write(path, filled(template, **values))


def filled(template: str, **values: Any) -> str:
    """The page that a template makes of ``values``."""
    return _pages().get_template(template).render(**values)


@cache
def _pages() -> Environment:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # prompts are anyone's text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.globals |= {"words": wording, "plots": plots}
    return pages


def check_ours(page: Path, others: Iterable[Path] = ()) -> None:
    """Finds out whether a page, and the files that go with it, may be written.

    Raises:
        ConfigError: If something is there that is of somebody else.
    """
    if page.is_file() and SIGN in page.read_text(encoding="utf-8", errors="replace"):
        return
    if there := [path for path in (page, *others) if os.path.lexists(path)]:
        raise ConfigError(
            f"report: {there[0]} is there already, and was not written by `unlearn report`. Give another "
            "folder with --out, or move it elsewhere."
        )
