"""Methods with the values that ``conf/method`` gives them."""

from __future__ import annotations

import math

import pytest
import torch
from golden_cases import golden_case, relative

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.methods.method import Context, Meter
from unlearn.models.erasure import Erasure

__all__ = ["concept_set", "configured", "golden_case", "interrupted", "pairs", "relative", "short"]


#: Overrides that leave little to do, by the first word of a method.
FEW_STEPS = {
    "esd": ("steps=2", "batch_size=2", "states=1", "sampler.steps=3"),
    "concept": ("steps=2", "batch_size=2", "images=2", "sampler.steps=3"),
    "salun": ("share=1.0", "steps=2", "batch_size=2", "images=2", "sampler.steps=3"),
    "erasediff": ("steps=2", "batch_size=2", "images=2", "sampler.steps=3"),
    "selective": (
        "steps=2",
        "batch_size=2",
        "images=2",
        "replay=2",
        "fisher_images=1",
        "fisher_timesteps=2",
        "sampler.steps=3",
    ),
    "forget": ("steps=2", "batch_size=2", "images=2", "sampler.steps=3"),
    "spm": (
        "steps=2",
        "batch_size=2",
        "states=1",
        "anchor_count=1",
        "optimizer.lr=0.1",
        "optimizer.warmup=0",
        "sampler.steps=3",
    ),
    "mace": ("kinds.object.steps=2", "images=2", "sampler.steps=3"),
    "trce": (
        "steering.kinds=[object]",
        "steering.steps=2",
        "steering.states=1",
        "steering.early=2",
        "steering.sampler.steps=3",
    ),
    "realera": ("alignment.steps=2", "alignment.images=2", "alignment.sampler.steps=3"),
    "advunlearn": (
        "steps=2",
        "warmup=1",
        "trajectories=1",
        "retain_trajectories=2",
        "states=1",
        "attack.steps=2",
        "sampler.steps=3",
    ),
    "duge": ("steps=2", "images=2", "memory=2", "sampler.steps=3"),
    "doco": ("steps=3", "warmup=1", "batch_size=2", "images=2", "sampler.steps=3"),
    "rg": ("steps=2", "batch_size=2", "images=2", "sampler.steps=3"),
}


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


def short(name: str, *overrides: str, world: str = "sd"):
    """The method in ``conf/method/<name>.yaml``, with as little to do as there can be."""
    return configured(name, *FEW_STEPS.get(name.split("_")[0], ()), *overrides, world=world)


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


def pairs(old: list[str], new: list[str], retain: list[str]) -> ConceptSet:
    """One concept for each pair of phrase and anchor."""
    shared = {"kind": "object", "retain": retain, "prompts": None, "detector": "judge", "labels": ["x"]}
    concepts = {
        f"{i}": Concept(phrases=[phrase], anchor=anchor, **shared)
        for i, (phrase, anchor) in enumerate(zip(old, new, strict=True))
    }
    return ConceptSet(erase=concepts)


def interrupted(
    model,
    method,
    concepts,
    folder,
    monkeypatch,
    *stops: int,
    until: float = math.inf,
    says: str | None = None,
    before: Erasure | None = None,
):
    """Kills an erasure at each of ``stops``: it ends like an undisturbed one, at the same cost.

    A checkpoint is written after every step below ``until``. With ``says``, it is killed where that is said.
    With ``before``, the erasure is continued from that one. Gives the resumed erasure and the other.
    """

    def run(name: str, stop: int | None = None):
        def log(values, step):
            monkeypatch.setattr(
                "unlearn.methods.training.loop.CHECKPOINT_SECONDS", 0 if step < until else math.inf
            )
            if step == stop and (says is None or says in values):
                raise KeyboardInterrupt

        scratch = folder / name
        scratch.mkdir(exist_ok=True)
        meter = Meter(model)
        context = Context(seed=0, scratch=scratch, log=log, progress=False, meter=meter)
        erasure = (
            method.continued(model, concepts, context, before)
            if before
            else method.erase(model, concepts, context)
        )
        return erasure, meter.read()["forwards"]

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
