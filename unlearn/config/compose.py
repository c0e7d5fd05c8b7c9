"""From ``key=value`` words to a composed Hydra configuration.

A component's class is its schema: the fields of the dataclass say which keys its YAML may have and of which
type. Hydra checks these while it composes; what it lets pass is found in :mod:`unlearn.config.resolve`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.catalogue import TABLES
from unlearn.concepts.choice import ConceptChoice
from unlearn.config.identity import run_name
from unlearn.config.schemas import Evaluation, RunConfig
from unlearn.errors import ConfigError, unknown
from unlearn.plugins.folders import FOLDERS, brought_by
from unlearn.plugins.loading import ORIGINS, load


class OutsideFolders(SearchPathPlugin):
    """Lets Hydra find the YAML that plug-ins brought with them."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Puts their folders behind the package's own."""
        for folder in FOLDERS:
            search_path.append("unlearn.plugins", f"file://{folder}")


def register_schemas(words: Sequence[str] = ()) -> None:
    """Makes the classes known to Hydra, as ``schema`` and ``schema/<group>/<name>``, and the resolvers.

    One from outside is its own configuration as well, as long as no YAML has its name.

    Arguments:
        words: ``key=value`` words, which may bring plug-ins.

    Raises:
        ConfigError: If a plug-in cannot be used.
    """
    _register_own()
    load(words)
    store = ConfigStore.instance()
    for group, name in ORIGINS:
        store.store(group=f"schema/{group}", name=name, node=TABLES[group][name])
        if not brought_by(group, name):
            store.store(group=group, name=name, node=TABLES[group][name])


@cache
def _register_own() -> None:
    Plugins.instance().register(OutsideFolders)
    store = ConfigStore.instance()
    store.store(name="schema", node=RunConfig)
    store.store(group="schema/concept", name="choice", node=ConceptChoice)
    store.store(group="schema/eval", name="evaluation", node=Evaluation)
    for group, table in TABLES.items():
        for name, cls in table.items():
            store.store(group=f"schema/{group}", name=name, node=cls)
    OmegaConf.register_new_resolver("run_name", run_name)
    OmegaConf.register_new_resolver("auto_device", _auto_device)
    OmegaConf.register_new_resolver("by_world", _by_world)
    OmegaConf.register_new_resolver("gpus", _gpus)


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration that ``unlearn run`` composes from these overrides.

    Raises:
        ConfigError: If they do not compose.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException

    register_schemas(overrides)
    try:
        with initialize_config_module("unlearn.conf", version_base="1.3"):
            return compose("run", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error


def _auto_device() -> str:
    """A GPU if there is one, else the CPU; of several GPUs, each job of a sweep takes the next."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    if not (count := torch.cuda.device_count()):
        return "cpu"
    swept = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return f"cuda:{HydraConfig.get().job.num % count if swept else 0}"


def _by_world(values: DictConfig, *, _root_: DictConfig) -> Any:
    """The value for the world of the chosen model, as in ``${by_world:{sd: 1000, pocket: 400}}``.

    Raises:
        ConfigError: If there is no value for it.
    """
    world = _root_.model.world
    if world not in values:
        raise ConfigError(unknown("world", world, map(str, values)))
    return values[world]


def _gpus() -> int:
    """How many CUDA devices there are, or 1, for launchers that run as many jobs at a time."""
    import torch

    return max(torch.cuda.device_count(), 1)
