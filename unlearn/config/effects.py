"""Whether what a user has set has any effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from unlearn.config.idle import idle
from unlearn.config.schemas import RunConfig


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
