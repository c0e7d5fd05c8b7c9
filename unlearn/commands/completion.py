"""``unlearn completion`` and ``unlearn complete``: what may come next on the command line.

The configuration files are read as plain YAML here, since a keypress cannot wait for Hydra and torch. What is
offered is what those files set; settings whose class turns them off by default are left to ``unlearn show``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from unlearn.commands import COMMANDS, KINDS
from unlearn.commands.files import GROUPS, chosen_groups, composed, is_group, options
from unlearn.errors import ConfigError
from unlearn.plugins.folders import search

SCRIPTS = {
    "bash": """\
_unlearn() {
  local line="${COMP_LINE:0:COMP_POINT}"
  local word="${line##* }"
  local IFS=$'\\n'
  COMPREPLY=($(unlearn complete -- "$line"))
  # Readline takes '=' for the end of a word: what stands before it must not be said again.
  if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
    local said="${word%"${word##*=}"}"
    COMPREPLY=("${COMPREPLY[@]#"$said"}")
  fi
}
complete -o nospace -o default -F _unlearn unlearn
""",
    "zsh": """\
_unlearn() {
  local -a words_found
  words_found=("${(@f)$(unlearn complete -- "$LBUFFER")}")
  compadd -S '' -a words_found
}
compdef _unlearn unlearn
""",
    "fish": """\
complete -c unlearn -f -a '(unlearn complete -- (commandline -cp))'
""",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn completion``."""
    parser.add_argument("shell", choices=SCRIPTS)
    parser.epilog = 'In bash: eval "$(unlearn completion bash)". Put the line into ~/.bashrc to keep it.'


def main(arguments: argparse.Namespace) -> None:
    """Prints the script that a shell is to evaluate."""
    print(SCRIPTS[arguments.shell], end="")


def complete(words: Sequence[str]) -> None:
    """Prints what may stand in place of the last word, one a line."""
    line = words[-1] if words else ""
    for candidate in candidates(line):
        print(candidate)


def candidates(line: str) -> list[str]:
    """What the last word of a command line can be completed to.

    Arguments:
        line: The command line up to the cursor, ``unlearn`` included.
    """
    words = line.split()
    last = "" if line.endswith(" ") or not words else words[-1]
    before = words[1 : len(words) - bool(last)]
    with suppress(ConfigError):  # of a plug-in whose names are taken: whoever runs it is told
        search(before)
    return sorted({found for found in _next(before, last) if found.startswith(last)})


def _next(before: Sequence[str], last: str) -> Iterator[str]:
    match before:
        case []:
            yield from (f"{name} " for name in COMMANDS)
        case ["list"]:
            yield from (f"{name} " for name in GROUPS)
        case ["new"]:
            yield from (f"{kind} " for kind in KINDS)
        case ["show"]:
            for group in GROUPS.values():
                yield from (f"{group}={name}" for name in options(group))
        case ["completion"]:
            yield from SCRIPTS
        case ["clean", *_]:
            yield from ("--unreferenced ", "--leftovers ", "--scratch ", "--runs ", "--older-than ", "--yes ")
        case ["run" | "generate" | "check", *overrides]:
            yield from _settings(overrides, last)


def _settings(overrides: Sequence[str], last: str) -> Iterator[str]:
    """Groups, keys and values of ``unlearn run``, given what stands on its line already."""
    mark = last[:1] if last[:1] in ("+", "~") else ""
    key, given, _ = last.removeprefix(mark).partition("=")
    if given and is_group(key.partition("@")[0]):
        values = [f"{key}={name}" for name in options(key.partition("@")[0])]
    elif given:
        value = _at(composed(overrides), key)
        values = (
            [f"{key}={_shown(value)}"] if value is not None and not isinstance(value, dict | list) else []
        )
        values = [value for value in values if "${" not in value]
    else:
        stem = key.rpartition(".")[0]
        tree = composed(overrides)
        node = _at(tree, stem) if stem else tree
        start = f"{stem}." if stem else ""
        values = [
            f"{start}{name}." if isinstance(value, dict) else f"{start}{name}="
            for name, value in (node.items() if isinstance(node, dict) else ())
        ]
        if not stem:
            values += [f"{group}=" for group in (*chosen_groups(), "hydra/launcher")]
    yield from (mark + value for value in values)


def _at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
