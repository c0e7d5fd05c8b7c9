"""``unlearn list``: what there is to choose from, with its paper and one line."""

from __future__ import annotations

import argparse
import inspect

from unlearn.commands.files import GROUPS, comment, options, schema, tree_of


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn list``."""
    parser.add_argument("kind", choices=GROUPS, metavar="KIND", help=", ".join(GROUPS))
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="what brings more of them: plugins=[mine.py] or hydra.searchpath=[file://conf]",
    )


def main(arguments: argparse.Namespace) -> None:
    """Prints a line for each: its name, its paper if it has one, what it does, and in brackets what it came
    with if that is not this package.
    """
    from unlearn.plugins.names import origin, outside

    group = GROUPS[arguments.kind]
    more = outside(group, arguments.overrides)
    rows = [
        (name, *_described(group, name), *origin(group, name)) for name in sorted({*options(group), *more})
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    for name, paper, *texts in rows:
        words = [name.ljust(widths[0]), *([paper.ljust(widths[1])] if widths[1] else []), *texts]
        print("  ".join(words).rstrip())


def _described(group: str, name: str) -> tuple[str, str]:
    """The paper of a configuration, and its first comment or the first sentence of its class."""
    if group == "concept":
        worlds = tree_of(group, name).get("worlds", {}).values()
        phrases = [phrase for world in worlds for c in world["erase"].values() for phrase in c["phrases"]]
        return "", comment(group, name) or ", ".join(dict.fromkeys(phrases))
    from unlearn.catalogue import TABLES

    cls = TABLES[group].get(schema(group, name) or name)
    return getattr(cls, "paper", ""), comment(group, name) or (inspect.getdoc(cls) or "").split("\n", 1)[0]
