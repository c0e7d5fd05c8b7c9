"""Methods with the values that ``conf/method`` gives them."""

from __future__ import annotations

import math

import pytest
import torch
from golden_cases import golden_case, relative

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.methods.method import Context, Meter

__all__ = ["concept_set", "configured", "golden_case", "interrupted", "relative"]


def configured(name: str, *overrides: str, world: str = "sd"):
    """The method in ``conf/method/<name>.yaml``, with ``key=value`` overrides of its fields."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from unlearn.config.compose import register_schemas

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


def interrupted(model, method, concepts, folder, monkeypatch, *stops: int, until: float = math.inf):
    """Kills an erasure at each of ``stops``: it ends like an undisturbed one, at the same cost.

    A checkpoint is written after every step below ``until``. Gives the resumed erasure and the other.
    """

    def run(name: str, stop: int | None = None):
        def log(_values, step):
            monkeypatch.setattr(
                "unlearn.methods.training.loop.CHECKPOINT_SECONDS", 0 if step < until else math.inf
            )
            if step == stop:
                raise KeyboardInterrupt

        scratch = folder / name
        scratch.mkdir(exist_ok=True)
        meter = Meter(model)
        context = Context(seed=0, scratch=scratch, log=log, progress=False, meter=meter)
        return method.erase(model, concepts, context), meter.read()["forwards"]

    undisturbed, forwards = run("undisturbed")
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run("killed", stop)
    resumed, counted = run("killed")
    assert counted == forwards
    assert resumed.history == undisturbed.history
    assert resumed.weights.keys() == undisturbed.weights.keys()
    assert all(torch.equal(resumed.weights[key], undisturbed.weights[key]) for key in undisturbed.weights)
    return resumed, undisturbed
