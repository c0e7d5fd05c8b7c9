"""Erasing from Python."""

from dataclasses import replace

import pytest
import torch

import unlearn
import unlearn.errors


@pytest.fixture(scope="module")
def config():
    prompts = [
        f"eval.prompts.{role}=2" for role in ("plain", "synonym", "implicit", "neighbour", "unrelated")
    ]
    return unlearn.configure(
        "method=uce_2023", "concept=church", "eval=quick", "model.sampler.steps=2", "device=cpu", *prompts
    )


def test_the_three_steps(config):
    model = unlearn.load_model(config.model, config.device)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    erasure = unlearn.erase(model, config.method, config.concepts)
    scores = unlearn.evaluate(model, erasure, config)
    assert scores["erased"]["n"] == 2
    assert scores["identity"]["value"] > 0
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())
    none = unlearn.evaluate(
        model, unlearn.configure("method=none").method.erase(model, config.concepts, None), config
    )
    assert none["identity"]["value"] == 0


def test_a_mistake_is_said_and_an_unknown_name_is_none():
    with pytest.raises(unlearn.errors.ConfigError, match="recee"):
        unlearn.configure("method=recee")
    with pytest.raises(AttributeError, match="no attribute 'erased'"):
        _ = unlearn.erased


def test_a_scratch_folder_is_for_one_set_of_settings(config, tmp_path):
    model = unlearn.load_model(config.model, config.device)
    unlearn.erase(model, config.method, config.concepts, scratch=tmp_path)
    unlearn.erase(model, config.method, config.concepts, scratch=tmp_path)
    other = replace(config.method, ridge=2 * config.method.ridge)
    with pytest.raises(
        unlearn.errors.ConfigError, match=r"other settings: method.ridge \(\S+ there, \S+ here"
    ):
        unlearn.erase(model, other, config.concepts, scratch=tmp_path)
