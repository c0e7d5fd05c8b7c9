"""Everything that is wrong with a command line that does not compose.

Hydra stops at the first mistake. Once it has, the command line is taken apart here and each part tried alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.commands.files import chosen_groups, is_group, options
from unlearn.config.compose import composed
from unlearn.config.idle import idle
from unlearn.config.resolve import resolve
from unlearn.errors import ConfigError, unknown
from unlearn.plugins.folders import SAID
from unlearn.plugins.names import outside

LAUNCHERS = {"gpus": "hydra-joblib-launcher", "slurm": "hydra-submitit-launcher"}
"""Our launchers, and the package that each stands on; the extra that brings it has the launcher's name."""


def diagnose(words: Sequence[str]) -> str | None:
    """What is wrong with the words behind ``unlearn run``, one line each under a headline.

    Returns:
        None if nothing could be found, or if the words bring configurations of their own.
    """
    said, _flags = _parser().parse_known_intermixed_args(list(words))
    if said.config_dir or said.config_path or said.config_name or SAID:
        return None
    problems, rest = _parsed(said.overrides)
    known = (*chosen_groups(), "hydra/launcher")
    groups = [override for override in rest if override.get_key_element().partition("@")[0] in known]
    values = [o for o in rest if o not in groups]
    sound = []
    for override in groups:
        if found := [*_unknown_options(override), *_missing_extras(override)]:
            problems += found
        else:
            sound += _first(override)
    try:
        config = composed(sound)
    except ConfigError:
        return _listed(problems)
    dead = _dead(config)
    for override in values:
        problems += _unfit(config, override, dead)
    try:
        resolve(config, here=False)
    except ConfigError as error:
        problems += str(error).split("\n  ")[1:]
    return _listed(problems)


def _parser() -> argparse.ArgumentParser:
    """What of Hydra's flags takes a word of its own; all others can be told by their dash."""
    parser = argparse.ArgumentParser(add_help=False)
    for flag in ("--config-dir -cd", "--config-path -cp", "--config-name -cn", "--cfg -c", "--package -p"):
        parser.add_argument(*flag.split())
    parser.add_argument("--experimental-rerun")
    parser.add_argument("--info", "-i", nargs="?")
    parser.add_argument("overrides", nargs="*")
    return parser


def _listed(problems: Sequence[str]) -> str | None:
    if not problems:
        return None
    return "The configuration does not describe a run:\n  " + "\n  ".join(dict.fromkeys(problems))


def _parsed(words: Sequence[str]) -> tuple[list[str], list[Override]]:
    """What does not read as ``key=value``, and what does."""
    parser, problems, found = OverridesParser.create(), [], []
    for word in words:
        try:
            found.append(parser.parse_override(word))
        except HydraException as error:
            problems.append(f"{word}: {str(error).splitlines()[0]}. Say it as key=value.")
    return problems, found


def _values(override: Override) -> list[Any]:
    """All values that an override takes in a sweep, or its only one."""
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    return [override.value()]


def _unknown_options(override: Override) -> Iterator[str]:
    group = override.get_key_element().lstrip("+~").partition("@")[0]
    if not is_group(group) or override.is_delete():
        return
    for value in _values(override):
        known = sorted({*options(group), *outside(group)})
        if isinstance(value, str) and value not in known and value != "null":
            yield f"{group}: {unknown(group, value, known)}"


def _missing_extras(override: Override) -> Iterator[str]:
    """Launchers that are named here, but come with an extra that is not installed."""
    if override.get_key_element() != "hydra/launcher":
        return
    for value in _values(override):
        if value in LAUNCHERS and not _installed(LAUNCHERS[value]):
            yield f"hydra/launcher: {value} needs the package of the extra: pip install 'unlearn[{value}]'."


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _first(override: Override) -> list[str]:
    """An override with the first of its values, as a word again."""
    return [f"{override.get_key_element()}={_values(override)[0]}"]


def _dead(config: DictConfig) -> list[str]:
    """Keys that have no effect beside the choices on the line, and are not to be recommended."""
    try:
        return list(idle(resolve(config, here=False)))
    except ConfigError:  # will be said
        return []


def _unfit(config: DictConfig, override: Override, dead: Sequence[str]) -> Iterator[str]:
    """Keys that are not there and values that they do not take; those that fit are set in ``config``."""
    key = override.get_key_element().lstrip("+~")
    if is_group(key.partition("@")[0]):
        yield from _unknown_options(override)
        return
    if (lacking := _lacking(config, key)) is not None:
        parent, path, name = lacking
        cls = OmegaConf.get_type(parent)
        names = [f.name for f in fields(cls)] if is_dataclass(cls) else [str(k) for k in parent]
        alive = [each for each in names if f"{path}{each}" not in dead]
        below = [
            each for each in _below(parent, path) if not any(f"{each}.".startswith(f"{d}.") for d in dead)
        ]
        deeper = [each for each in below if each.rpartition(".")[2] == name]
        near = f" Did you mean '{min(deeper, key=len)}'?" if deeper else ""
        said = unknown("key", name, alive)
        yield f"{key}: " + (f"Unknown key '{name}'.{near}" if near else said)
        return
    if override.is_delete():
        return
    for value in _values(override):
        try:
            OmegaConf.update(config, key, value)
        except OmegaConfBaseException as error:
            yield f"{key}: {str(error).splitlines()[0]}"


def _below(node: DictConfig, path: str) -> Iterator[str]:
    """The full keys of all that is below ``node``, which is at ``path``."""
    for name in map(str, node):
        yield f"{path}{name}"
        if OmegaConf.is_missing(node, name) or OmegaConf.is_interpolation(node, name):
            continue
        if isinstance(child := node[name], DictConfig):
            yield from _below(child, f"{path}{name}.")


def _lacking(config: DictConfig, key: str) -> tuple[DictConfig, str, str] | None:
    """Where the path ``key`` leaves the configuration: the last node on it, its own path with a point at the
    end, and the name that it lacks."""
    node: Any = config
    path = ""
    for name in key.split("."):
        if not isinstance(node, DictConfig):
            return None
        if name not in node and not OmegaConf.is_missing(node, name):
            return node, path, name
        try:
            node = None if OmegaConf.is_missing(node, name) else node[name]
        except OmegaConfBaseException:  # refers to nothing, which resolve() says
            return None
        path += f"{name}."
    return None
