"""What a composed configuration is known by: the fingerprint and the name of its run."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.store.artifacts import fingerprint
from unlearn.system.confidential import REFERENCE
from unlearn.system.writing import file_name

NEUTRAL = frozenset({"device", "force", "hydra", "objective", "outputs", "plugins", "tracker"})
"""Keys of a run that change where and how fast a result comes, not what it is; they are in no fingerprint.

The code of a plug-in is in the fingerprints of what it makes, as all code is; where its file lies is not.
"""


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
