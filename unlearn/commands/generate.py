"""``unlearn generate``: images for your own prompts, from the original or an erased model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.errors import ConfigError
from unlearn.system.writing import check_writable

if TYPE_CHECKING:
    from unlearn.config.schemas import RunConfig


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn generate``."""
    parser.add_argument("--prompt", action="append", required=True, help="may be given several times")
    parser.add_argument("--run", type=Path, help="folder of a finished run: draws with its erased model")
    parser.add_argument("--seed", type=int, default=0, help="of the first image, and so on (default: 0)")
    parser.add_argument("--count", type=int, default=1, help="images for each prompt (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("images"), help="folder (default: images)")
    parser.add_argument("--original", action="store_true", help="with --run: the model before the erasure")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as in model.sampler.steps=50")


def main(arguments: argparse.Namespace) -> None:
    """Draws the images and prints the path of each."""
    from unlearn.commands.rerun import erasure
    from unlearn.concepts.images import write_image
    from unlearn.models.erasure import Erasure
    from unlearn.models.sampling import draw

    if arguments.run is not None and arguments.overrides:
        raise ConfigError("generate: give either --run, which brings its settings, or settings of your own.")
    if arguments.count < 1 or arguments.seed < 0:
        raise ConfigError("generate: --count must be at least 1, and --seed at least 0.")
    config = _configuration(arguments)
    changes = erasure(arguments.run) if arguments.run is not None and not arguments.original else Erasure()
    prompts = [prompt for prompt in arguments.prompt for _ in range(arguments.count)]
    seeds = [arguments.seed + i for _ in arguments.prompt for i in range(arguments.count)]
    paths = iter(_free(arguments.out, prompts, seeds))
    model = config.model.load(config.device)
    with model.erased(changes) as erased:
        for batch in draw(erased, prompts, seeds, config.model.sampler, guard=changes.guard):
            for image in batch:
                path = next(paths)
                write_image(path, image, durable=True)
                print(path)


def _configuration(arguments: argparse.Namespace) -> RunConfig:
    """That of the run, whose model must still be there; or of the settings on the command line."""
    from unlearn.commands.rerun import check_model, configuration
    from unlearn.config.compose import composed
    from unlearn.config.resolve import resolve

    if arguments.run is None:
        return resolve(composed(arguments.overrides))
    config = configuration(arguments.run)
    check_model(arguments.run, config.model)
    return config


def _free(folder: Path, prompts: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """The file of each image in ``folder``.

    Raises:
        ConfigError: If the folder cannot be written to, or one of them is there.
    """
    paths = [
        folder / f"{number:04d}-{_slug(prompt)}-s{seed}.png"
        for number, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    check_writable(folder, "generate: --out")
    if there := [path for path in paths if os.path.lexists(path)]:
        raise ConfigError(f"generate: {there[0]} exists already. Give another folder with --out.")
    return paths


def _slug(prompt: str) -> str:
    """The prompt as part of a file name."""
    return "-".join("".join(c if c.isalnum() else " " for c in prompt.lower()).split())[:40]
