"""From a composed Hydra configuration to the objects of a run.

A component's class is its schema: the fields of the dataclass say which keys its YAML may have and of which
type. Hydra checks these while it composes; :func:`resolve` finds all that Hydra lets pass, says everything at
once, and builds the objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlearn.catalogue import TABLES
from unlearn.concepts.choice import ConceptChoice
from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.config.fit import mismatches
from unlearn.config.idle import idle
from unlearn.errors import ConfigError, unknown
from unlearn.store.artifacts import fingerprint
from unlearn.system.confidential import REFERENCE, heed
from unlearn.system.writing import file_name

NEUTRAL = frozenset({"device", "force", "hydra", "objective", "outputs", "tracker"})
"""Keys of a run that change where and how fast a result comes, not what it is; they are in no fingerprint."""


@dataclass(kw_only=True)
class Seeds:
    """Where the randomness of each stage begins.

    Attributes:
        erase: Of the erasure.
        generate: Of the images; 0 keeps the seeds of the prompt files.
        attack: Of the attacks.
    """

    erase: int
    generate: int
    attack: int

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if not 0 <= value < 2**63:
                raise ValueError(f"{key}: must be from 0 to 2**63 - 1, got {value}")


@dataclass(kw_only=True)
class Paths:
    """Folders of the user's own files.

    Attributes:
        prompts: Searched for prompt files before the packaged ones.
    """

    prompts: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Evaluation:
    """Which attacks to run and which metrics to take.

    Attributes:
        prompts: How many prompts of each role to use at most; a role that is not named is used whole. In a
            sequence, ``plain``, ``synonym`` and ``implicit`` have so many of each concept.
        attacks: By name; each gives a prompt set ``attack:<name>``.
        metrics: By the name of the score.
        detectors: The networks that judge images, by the name that concepts, models and metrics call them.
        failures: How many images may fail to be scored before the run fails.
        resurgence: Curves of how fast the concept comes back, by name.
    """

    prompts: dict[str, int] = field(default_factory=dict)
    attacks: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    detectors: dict[str, Any] = field(default_factory=dict)
    failures: int = 0
    resurgence: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role, count in self.prompts.items():
            if role not in ROLES:
                raise ValueError(f"prompts: {unknown('role', role, ROLES)}")
            if count < 1:
                raise ValueError(f"prompts.{role}: must be at least 1, got {count}")
        if self.failures < 0:
            raise ValueError(f"failures: must be at least 0, got {self.failures}")


@dataclass(kw_only=True)
class RunConfig:
    """All that a run depends on.

    Attributes:
        model: The model to erase from.
        method: How to erase.
        concept: What to erase.
        eval: How to measure it.
        tracker: Where numbers and images go while the run goes on.
        seed: What the three seeds are unless they are set apart.
        seeds: The seed of each stage.
        paths: Folders of the user's own files.
        device: A torch device.
        outputs: Where artifacts and runs are kept.
        force: Whether to make everything again that is already there.
        objective: Name of the score that the run returns to an optimising sweeper.
    """

    model: Any
    method: Any
    concept: ConceptChoice
    eval: Evaluation
    tracker: Any
    seed: int
    seeds: Seeds
    paths: Paths
    device: str
    outputs: str
    force: bool
    objective: str | None

    @property
    def concepts(self) -> ConceptSet:
        """What to erase in all, in the words of the model's world."""
        return self.concept.world(self.model.world)

    @property
    def steps(self) -> list[ConceptSet]:
        """What to erase one after another: all at once, or the concepts of a sequence."""
        return self.concept.steps(self.model.world)


@cache
def register_schemas() -> None:
    """Makes the classes known to Hydra, as ``schema`` and ``schema/<group>/<name>``, and the resolvers."""
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

    register_schemas()
    try:
        with initialize_config_module("unlearn.conf", version_base="1.3"):
            return compose("run", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error


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
    if problems := mismatches(run, here):
        raise ConfigError("The parts of this run do not fit together:\n  " + "\n  ".join(problems))
    if problems := ineffective(run, config, said):
        raise ConfigError("These settings would change nothing:\n  " + "\n  ".join(problems))
    return run


def ineffective(run: RunConfig, config: DictConfig, said: Sequence[str]) -> list[str]:
    """What a user has set without any effect, not even on what refers to it, each with its full key.

    Arguments:
        run: The run that ``config`` describes.
        said: ``key=value`` words. What changes no number in any run, such as a device, is let pass.
    """
    overrides = OverridesParser.create().parse_overrides(list(said))
    keys = dict.fromkeys(o.get_key_element().lstrip("+") for o in overrides if not o.is_delete())
    without = idle(run) if keys else {}
    written = dict(_leaves(OmegaConf.to_container(config), ""))
    problems = []
    for key in keys:
        reason = _reason(key, without)
        if reason is None or _is_neutral(config, key):
            continue
        referring = [other for other, text in written.items() if _names(text, key)]
        if all(_reason(other, without) for other in referring):
            problems.append(f"{key}: has no effect here, got {OmegaConf.select(config, key)!r}. {reason}")
    return problems


def _reason(key: str, without: Mapping[str, str]) -> str | None:
    """Why a key has no effect, out of those that have none with all below them."""
    return next((why for start, why in without.items() if f"{key}.".startswith(f"{start}.")), None)


def _is_neutral(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    return name in getattr(OmegaConf.get_type(OmegaConf.select(config, parent)), "neutral", ())


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, str(value)


def _names(text: str, key: str) -> bool:
    """Whether an interpolation in a text names a key, something below it, or what it is part of."""
    named = (found.strip() for found in re.findall(r"\$\{([\w.]+)\}", text))
    return any(f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in named)


def run_name(*, _root_: DictConfig) -> str:
    """``<method>-<concept>-<model>-s<seed>-<fingerprint>``, the same for the same run."""
    choices, concept = _root_.hydra.runtime.choices, OmegaConf.to_container(_root_.concept)
    said = concept.get("name") if isinstance(concept, dict) else None
    hidden = said is None or said == "???" or REFERENCE.search(str(said)) is not None
    named = choices.concept if hidden else _root_.concept.name
    words = [choices.method, str(named), choices.model, f"s{_root_.seed}", signature(_root_)]
    return file_name("-".join(words))


def signature(config: DictConfig) -> str:
    """The fingerprint of a composed configuration, without what cannot change a number."""
    return fingerprint({str(key): _described(config, str(key)) for key in config if key not in NEUTRAL})


def _described(node: DictConfig | ListConfig, key: Any) -> Any:
    """What stands under ``key`` in plain terms; the fields that its class calls neutral are left out."""
    if OmegaConf.is_missing(node, key):
        return "???"
    try:
        value = node[key]
    except OmegaConfBaseException:
        # Refers to nothing: resolve() will say so, once there is a run to say it in.
        plain: Any = OmegaConf.to_container(node)
        return plain[key]
    if OmegaConf.is_interpolation(node, key):
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    if isinstance(value, DictConfig):
        neutral = getattr(OmegaConf.get_type(value), "neutral", ())
        return {str(inner): _described(value, inner) for inner in value if inner not in neutral}
    if isinstance(value, ListConfig):
        return [_described(value, index) for index in range(len(value))]
    return value


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
        except ValueError as error:  # __post_init__ begins its message with the name of the field
            found.append(f"{path}{error}")
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
