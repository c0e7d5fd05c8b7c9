"""``unlearn export``: the erased model of a run as a folder that plain diffusers opens."""

from __future__ import annotations

import argparse
from pathlib import Path

from unlearn.errors import ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn export``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; must not exist yet")


def main(arguments: argparse.Namespace) -> None:
    """Writes the folder, whole or not at all, and prints its path."""
    import shutil

    from unlearn.commands.rerun import configuration, erasure
    from unlearn.models.export import export

    folder: Path = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"export: {folder} exists already. Give a folder that does not, or remove it.")
    config = configuration(arguments.run)
    changes = erasure(arguments.run)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        export(config.model.load("cpu"), changes, unfinished)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    print(folder)
