"""Methods with the values that ``conf/method`` gives them."""

from __future__ import annotations

from golden_cases import golden_case, relative

from unlearn.concepts import Concept, ConceptSet

__all__ = ["concept_set", "configured", "golden_case", "relative"]


def configured(name: str, *overrides: str, world: str = "sd"):
    """The method in ``conf/method/<name>.yaml``, with ``key=value`` overrides of its fields."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from unlearn.config import register_schemas

    register_schemas()
    model = [f"+model.world={world}", "+model.sampler.resolution=32", "+model.sampler.batch_size=4"]
    with initialize_config_module("unlearn.conf", version_base="1.3"):
        config = compose(overrides=[f"+method={name}", *model, *(f"method.{o}" for o in overrides)])
    return OmegaConf.to_object(config.method)


def concept_set(*phrases: str, anchor: str = "dog", retain=("house",), kind: str = "object") -> ConceptSet:
    """One concept for each phrase."""
    return ConceptSet(
        erase={
            phrase: Concept(
                kind=kind,
                phrases=[phrase],
                anchor=anchor,
                retain=list(retain),
                prompts=None,
                detector="judge",
                labels=[phrase],
            )
            for phrase in phrases
        }
    )
