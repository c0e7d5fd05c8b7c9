"""From a composed configuration to the objects of a run.

Hydra checks keys and types while it composes; what it lets pass is found here, and said all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlearn.catalogue import TABLES
from unlearn.config.effects import ineffective
from unlearn.config.fit import mismatches
from unlearn.config.schemas import RunConfig
from unlearn.errors import ConfigError, unknown
from unlearn.plugins.loading import is_loaded
from unlearn.system.confidential import heed


def resolve(config: DictConfig, here: bool = True, said: Sequence[str] = ()) -> RunConfig:
    """Builds the objects of a run.

    Arguments:
        config: The composed configuration.
        here: Whether to look, too, whether this machine has all that the run needs.
        said: The ``key=value`` words that a user has asked for it with, none of which may change nothing.

    Raises:
        ConfigError: Listing every problem at once, each with its full key.
    """
    heed(OmegaConf.to_container(config, resolve=False))
    if problems := [*_problems(config, "")]:
        raise ConfigError("The configuration does not describe a run:\n  " + "\n  ".join(problems))
    run = OmegaConf.to_object(config)
    assert isinstance(run, RunConfig)
    if late := [file for file in run.plugins if not is_loaded(file)]:
        raise ConfigError(
            f"plugins: {late[0]} is named too late. Name it on the command line, or in an experiment."
        )
    if problems := mismatches(run, here):
        raise ConfigError("The parts of this run do not fit together:\n  " + "\n  ".join(problems))
    if problems := ineffective(run, config, said):
        raise ConfigError("These settings would change nothing:\n  " + "\n  ".join(problems))
    return run


def _problems(node: DictConfig, path: str) -> list[str]:
    """Missing values, unknown keys and refused values below ``path``, the innermost first."""
    cls = OmegaConf.get_type(node)
    names = [f.name for f in fields(cls)] if is_dataclass(cls) else None
    found: list[str] = []
    strange: list[str] = []
    for key in map(str, node):
        where = f"{path}{key}"
        if names is not None and key not in names:
            strange.append(key)
        elif OmegaConf.is_missing(node, key):
            found.append(f"{where}: needs a value{_choices(cls, key)}")
        else:
            try:
                child = node[key]
            except OmegaConfBaseException as error:
                found.append(f"{where}: {str(error).splitlines()[0]}")
                continue
            if isinstance(child, DictConfig):
                found += _problems(child, f"{where}.")
    if names is not None and not found:
        try:
            OmegaConf.to_object(_without(node, strange))
        except ValueError as error:  # each line of its message begins with the name of a field
            found += [f"{path}{line}" for line in str(error).splitlines()]
    return [*(f"{path}{key}: {unknown('key', key, names or ())}" for key in strange), *found]


def _without(node: DictConfig, keys: Sequence[str]) -> DictConfig:
    if not keys:
        return node
    rest = deepcopy(node)
    with open_dict(rest):
        for key in keys:
            del rest[key]
    return rest


def _choices(cls: type | None, key: str) -> str:
    return f". Choose one with {key}=<name>." if cls is RunConfig and key in TABLES else "."
