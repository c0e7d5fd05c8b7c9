"""RECE: the reviving embedding, and the edits that take it away."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, golden_case, relative
from test_uce import pairs

from unlearn.concepts import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.closed_form import apply_map, gram
from unlearn.methods.rece import revive
from unlearn.models.parameters import matching


def golden_rece(case, *overrides: str):
    settings = {
        "erase_scale": case.inputs["erase_scale"],
        "preserve_scale": case.inputs["preserve_scale"],
        "ridge": case.inputs["lamb"],
        "mu": case.inputs["regular_scale"],
    }
    method = configured("rece", *(f"{key}={value}" for key, value in settings.items()), *overrides)
    if isinstance(case.inputs["start"], str):
        method.start = None
    else:
        (start,) = case.inputs["start"].values()
        assert start["retain_text_"] == [""]
        method.start = configured(
            "uce_2023",
            f"erase_scale={start['erase_scale']}",
            f"preserve_scale={start['preserve_scale']}",
            f"ridge={start['lamb']}",
        )
    return method


class StartRetainsNothing:
    """The golden cases start from an edit that retains the empty text alone, whatever the epochs retain."""

    def __init__(self, method):
        self.method, self.technique = method, method.technique

    def solved(self, model, concepts):
        bare = {name: replaced(concept, retain=[]) for name, concept in concepts.erase.items()}
        return self.method.solved(model, ConceptSet(erase=bare))


def replaced(concept, **changes):
    from dataclasses import replace

    return replace(concept, **changes)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["nudity_from_uce_3ep", "nudity_scratch_1ep", "multi_concept_2ep"])
def test_golden(name, golden, golden_tiny, context):
    case = golden_case(golden, f"rece/{name}")
    retain = [text for text in case.inputs["retain_texts"] if text.strip()]
    concepts = pairs(case.inputs["concepts"], case.inputs["new_texts"], retain)
    for epoch in range(case.inputs["epochs"]):
        method = golden_rece(case, f"epochs={epoch + 1}")
        if method.start is not None:
            method.start = StartRetainsNothing(method.start)
        weights = method.erase(golden_tiny, concepts, context).weights
        expected = case.weights(f"epoch{epoch}.edited.")
        tolerance = case.tolerance[f"epoch{epoch}.edited.*"]["tol"]
        assert weights.keys() == expected.keys()
        assert max(relative(weights[key], expected[key]) for key in expected) < tolerance


@pytest.mark.golden
@torch.no_grad()
def test_golden_embedding(golden, golden_tiny):
    case = golden_case(golden, "rece/embedding_variants")
    originals = matching(golden_tiny, "cross_attention_kv")
    start = case.weights("start.")
    names = list(originals)
    stacked = torch.cat([originals[name].double() for name in names])
    edited = torch.cat([start[name].double() for name in names])
    matrix = torch.linalg.lstsq(stacked, edited).solution
    tokens = golden_tiny.encode([case.inputs["concept"]]).tokens[0]
    found = revive(tokens, matrix, gram(*originals.values()), case.inputs["regular_scale"])
    assert relative(found, case.tensors["adv.regzero"]) < case.tolerance["adv.regzero"]["tol"]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layers():
    """Original layers, a map that edits them, and a concept."""
    weights = [randn(20, 12, seed=seed) for seed in range(3)]
    return weights, torch.eye(12, dtype=torch.float64) + 0.2 * randn(12, 12, seed=5), randn(4, 12, seed=6)


def test_the_reviving_embedding_minimises_its_objective(layers):
    weights, matrix, concept = layers
    found = revive(concept, matrix, gram(*weights), 0.3).requires_grad_()
    errors = sum((found @ (w @ matrix).T - concept @ w.T).square().sum() for w in weights)
    (errors + 0.3 * found.square().sum()).backward()
    assert found.grad.abs().max() < 1e-9


def test_without_mu_the_concept_comes_back_exactly_in_every_layer(layers):
    weights, matrix, concept = layers
    found = revive(concept, matrix, gram(*weights), 0.0)
    assert all(relative(found @ (w @ matrix).T, concept @ w.T) < 1e-10 for w in weights)


def test_mu_shortens_the_embedding_and_spoils_the_revival(layers):
    weights, matrix, concept = layers
    found = [revive(concept, matrix, gram(*weights), mu) for mu in (0.0, 0.1, 1.0, 10.0)]
    lengths = [float(f.norm()) for f in found]
    errors = [sum(float((f @ (w @ matrix).T - concept @ w.T).norm()) for w in weights) for f in found]
    assert lengths == sorted(lengths, reverse=True)
    assert errors == sorted(errors)


def test_no_epochs_is_the_start(tiny, context):
    bare = configured("rece", "epochs=0").erase(tiny, concept_set("church"), context)
    start = configured("uce_2023").erase(tiny, concept_set("church"), context)
    assert all(torch.equal(bare.weights[name], start.weights[name]) for name in start.weights)


@torch.no_grad()
def test_an_epoch_makes_revival_harder(tiny):
    weights = [weight.double() for weight in matching(tiny, "cross_attention_kv").values()]
    church = tiny.encode(["church"]).tokens[0].double()
    concepts = concept_set("church")
    errors = []
    for epochs in (0, 1):
        method = configured("rece", f"epochs={epochs}", "mu=0.1")
        plans = {name: method.hardening(name, concept) for name, concept in concepts.erase.items()}
        matrix, _ = method.found(tiny, concepts, plans, weights)
        edited = [weight.clone() for weight in weights]
        apply_map(edited, matrix)
        found = revive(church, matrix, gram(*weights), 0.1)
        errors.append(
            sum(float((found @ e.T - church @ w.T).norm()) for e, w in zip(edited, weights, strict=True))
        )
    assert errors[1] > 1.1 * errors[0]


def test_each_kind_of_concept_has_its_own_epochs(tiny, context):
    church, nude = concept_set("church").erase["church"], concept_set("nude", kind="nudity").erase["nude"]
    both = ConceptSet(erase={"church": church, "nude": nude})
    history = configured("rece").erase(tiny, both, context).history
    assert len(history) == 1 + 3  # the start, and the epochs of nudity
    history = configured("rece").erase(tiny, ConceptSet(erase={"church": church}), context).history
    assert len(history) == 1 + 1


def test_an_unknown_kind_needs_epochs_and_mu(tiny, context):
    method = configured("rece")
    del method.kinds["object"]
    with pytest.raises(ConfigError, match=r"method.kinds: for concept 'church': Unknown kind 'object'"):
        method.erase(tiny, concept_set("church"), context)
    method.epochs, method.mu = 1, 0.1
    assert method.erase(tiny, concept_set("church"), context).weights


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=-1", "epochs: must be at least 0"),
        ("kinds.nudity.epochs=-1", "epochs: must be at least 0"),
        ("mu=-1", "mu: must be a number from 0 up"),
        ("ridge=-1", "ridge: must be a number from 0 up"),
        ("erase_scale=-1", "erase_scale: must be above 0"),
        ("start.technique=tensor", "start.technique: must be 'replace'"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        configured("rece", override)
