"""``unlearn list``: what there is to choose from, with its paper and one line."""

from __future__ import annotations

import argparse
import inspect

from unlearn.commands.files import GROUPS, comment, options, schema, tree_of


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn list``."""
    parser.add_argument("kind", choices=GROUPS, metavar="KIND", help=", ".join(GROUPS))


def main(arguments: argparse.Namespace) -> None:
    """Prints a line for each: its name, its paper if it has one, and what it does."""
    group = GROUPS[arguments.kind]
    rows = [(name, *_described(group, name)) for name in options(group)]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(2)]
    for name, paper, text in rows:
        print(
            "  ".join(
                [name.ljust(widths[0]), *([paper.ljust(widths[1])] if widths[1] else []), text]
            ).rstrip()
        )


def _described(group: str, name: str) -> tuple[str, str]:
    """The paper of a configuration, and its first comment or the first sentence of its class."""
    if group == "concept":
        worlds = tree_of(group, name).get("worlds", {}).values()
        phrases = [phrase for world in worlds for c in world["erase"].values() for phrase in c["phrases"]]
        return "", comment(group, name) or ", ".join(dict.fromkeys(phrases))
    from unlearn.catalogue import TABLES

    cls = TABLES[group].get(schema(group, name) or "")
    return getattr(cls, "paper", ""), comment(group, name) or (inspect.getdoc(cls) or "").split("\n", 1)[0]
