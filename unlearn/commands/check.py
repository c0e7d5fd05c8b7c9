"""``unlearn check``: whether every configuration in ``conf/`` describes something that can run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from unlearn.commands.files import is_group, options
from unlearn.errors import ConfigError

#: Groups whose files stand alone; the others are met inside them.
ALONE = ("model", "method", "concept", "eval", "tracker", "experiment")
#: Where a component of these groups goes in a run.
PLACES = {
    "attack": "eval.attacks",
    "metric": "eval.metrics",
    "detector": "eval.detectors",
    "resurgence": "eval.resurgence",
}
#: Values that a file leaves to the user, filled in so that the rest can be checked.
FILLED = {
    "concept=custom": ("concept.name=lighthouse",),
    "attack=replay": ("eval.attacks.replay.file=prompts.csv",),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn check``."""
    parser.add_argument(
        "group",
        nargs="*",
        help="only these groups, such as method or concept; or what would stand behind unlearn run (with an "
        "equals sign), to know whether that run can start here, its prompt files and weights included",
    )


def main(arguments: argparse.Namespace) -> int:
    """Checks every file, or one run, and says what is wrong with each."""
    if any("=" in word for word in arguments.group):
        problem = check(arguments.group, here=True)
        print(problem or "ok")
        return int(problem is not None)
    wrong = 0
    for overrides in every(arguments.group or (*ALONE, *PLACES)):
        problem = check(overrides)
        wrong += problem is not None
        print(f"{'fails' if problem else 'ok':5}  {overrides[0]}" + (f"\n{problem}" if problem else ""))
    return int(wrong > 0)


def every(groups: Sequence[str]) -> Iterator[list[str]]:
    """The overrides that choose each file of ``groups``, one list a file."""
    for group in groups:
        for name in names(group):
            choice = f"{group}={name}"
            placed = f"+{group}@{PLACES[group]}.{name}={name}" if group in PLACES else choice
            yield [placed, *FILLED.get(choice, ())]


def names(group: str) -> list[str]:
    """The files of a group without ``.yaml``, those in its folders among them.

    Raises:
        ConfigError: If there is no such group.
    """
    if not is_group(group):
        raise ConfigError(f"There is no group '{group}'. Known: {', '.join((*ALONE, *PLACES))}.")
    return options(group)


def check(overrides: Sequence[str], here: bool = False) -> str | None:
    """What is wrong with the run that these overrides describe, None if nothing is.

    Arguments:
        here: Whether to look, too, whether this machine has the model, the packages and the device.
    """
    from unlearn.config.compose import composed
    from unlearn.config.resolve import resolve

    try:
        resolve(composed(overrides), here)
    except ConfigError as error:
        return str(error)
    return None
