"""``unlearn show``: one component as it is composed, with what each of its settings means."""

from __future__ import annotations

import argparse
import inspect
import re
import textwrap
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import chain
from typing import Any

from unlearn.commands.check import FILLED, PLACES, names
from unlearn.commands.files import GROUPS, comment, text
from unlearn.config.sources import Said, sources
from unlearn.errors import ConfigError, unknown
from unlearn.plugins.names import origin, outside
from unlearn.settings import Range, ranges

WIDTH = 100


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of ``unlearn show``."""
    parser.add_argument(
        "choice", metavar="GROUP=NAME", help="as in method=rece, concept=church or metric=fid"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change first")


def main(arguments: argparse.Namespace) -> None:
    """Prints its YAML with comments."""
    group, _, name = arguments.choice.partition("=")
    known = [*GROUPS.values(), "eval", "tracker"]
    if group not in known or not name:
        raise ConfigError(f"show: {unknown('group', group, known)} Say it as in: unlearn show method=rece")
    cls, node = chosen(group, name, arguments.overrides)
    paper = getattr(cls, "paper", "")
    print(f"# {group}={name}" + (f": {cls.__name__}" if cls else "") + (f" (arXiv {paper})" if paper else ""))
    for label in origin(group, name):
        print(f"# {label}")
    for paragraph in [*([comment(group, name)] if comment(group, name) else []), *_paragraphs(cls)]:
        print("#\n" + textwrap.indent(paragraph, "# "))
    print()
    found = sources(group, name, text)
    for override in arguments.overrides:
        key = override.partition("=")[0].lstrip("+").removeprefix(f"{PLACES.get(group, group)}.")
        found[key.removeprefix("shown.")] = "you"
    print("\n".join(_lines(node, "", found)))


def chosen(group: str, name: str, overrides: list[str] | None = None) -> tuple[type | None, Any]:
    """The class and the composed configuration of one choice.

    Raises:
        ConfigError: If there is no such choice.
    """
    from omegaconf import OmegaConf

    from unlearn.config.compose import composed

    more = outside(group, overrides or ()) if group in GROUPS.values() else []
    if name not in (known := sorted({*names(group), *more})):
        raise ConfigError(f"{group}: {unknown(group, name, known)}")
    choice = f"{group}={name}"
    if group in PLACES:
        # A place of its own: one of the evaluation's own of that name would lend it values.
        config = composed([f"+{group}@{PLACES[group]}.shown={name}", *(overrides or [])])
        node = OmegaConf.select(config, f"{PLACES[group]}.shown")
    else:
        node = composed([choice, *FILLED.get(choice, ()), *(overrides or [])])[group]
    cls = OmegaConf.get_type(node)
    return (cls if is_dataclass(cls) else None), node


def meanings(cls: type) -> dict[str, str]:
    """What each field of a dataclass means, from the ``Attributes`` of its docstring and those it extends."""
    found: dict[str, str] = {}
    for ancestor in reversed(cls.__mro__):
        _, _, section = (inspect.cleandoc(ancestor.__doc__ or "")).partition("Attributes:\n")
        section = re.split(r"\n(?=\S)", section)[0]
        for entry in re.split(r"\n(?=    \S)", "\n" + section):
            key, colon, text = entry.strip().partition(":")
            if colon and key.isidentifier():
                found[key] = " ".join(text.split())
    return found


def _paragraphs(cls: type | None) -> list[str]:
    """The docstring of a class without its fields, wrapped; formulas and references keep their lines."""
    text = inspect.getdoc(cls) if cls else None
    return (text or "").partition("\nAttributes:")[0].strip().split("\n\n") if text else []


def facts(field: Field[Any], declared: Range | None, source: str) -> str:
    """What a field may be, in which unit, and where its value comes from, as far as anything is said."""
    words = "true or false" if declared is None and field.type == "bool" else ""
    if declared is not None:
        words = declared.words()
    said = {"range": words, "unit": declared.unit if declared else "", "source": source}
    return "; ".join(f"{name}: {text}" for name, text in said.items() if text)


def _source(found: Said, start: str, field: Field[Any]) -> str:
    """Where the value of a field comes from; empty where it is what something else refers to."""
    has_default = field.default is not MISSING or field.default_factory is not MISSING
    stands = not start or any(key.startswith(start) for key in found)
    return found.get(f"{start}{field.name}", "default" if has_default and stands else "")


def _lines(node: Any, indent: str, found: Said, start: str = "") -> list[str]:
    """The YAML of ``node``, each setting below what it means, what it may be, and where its value is from."""
    from omegaconf import DictConfig, OmegaConf

    cls = OmegaConf.get_type(node)
    described = {each.name: each for each in fields(cls)} if is_dataclass(cls) else {}
    explained, declared = (meanings(cls), ranges(cls)) if is_dataclass(cls) else ({}, {})
    lines: list[str] = []
    for key in described or node:
        comments = [explained.get(key, "")]
        if key in described:
            source = _source(found, start, described[key])
            comments.append(facts(described[key], declared.get(key), source))
        elif f"{start}{key}" in found:
            comments.append(f"source: {found[f'{start}{key}']}")
        lines += chain.from_iterable(_comment(words, indent) for words in comments)
        value = "???" if OmegaConf.is_missing(node, key) else node[key]
        if isinstance(value, DictConfig) and len(value):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ", found, f"{start}{key}.")]
        else:
            plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            text = OmegaConf.to_yaml(OmegaConf.create({key: plain})).strip()
            lines.append(textwrap.indent(text, indent))
    return lines


def _comment(words: str, indent: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
