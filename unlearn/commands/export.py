"""``unlearn export``: the erased model of a run as a folder that plain diffusers opens, or as a LoRA."""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn export``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where it goes; must not exist yet")
    parser.add_argument(
        "--lora",
        action="store_true",
        help="write what is erased as a LoRA, for load_lora_weights on the original (closed-form edits only)",
    )


def main(arguments: argparse.Namespace) -> None:
    """Writes the folder, whole or not at all, and prints its path."""
    from unlearn.commands.rerun import check_model, configuration, erasure
    from unlearn.models.files.export import check_free, export

    check_free(arguments.folder)
    card = configuration(arguments.run).model
    changes = erasure(arguments.run)
    check_model(arguments.run, card)
    export(card.load("cpu"), changes, arguments.folder, as_lora=arguments.lora)
    print(arguments.folder)
