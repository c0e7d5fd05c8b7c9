"""RECE: the reviving embedding, and the edits that take it away."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, golden_case, pairs, relative

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.closed_form.rece import EMBEDDINGS, Layers, revive
from unlearn.methods.closed_form.solver import gram
from unlearn.models.weights.maps import apply_map
from unlearn.models.weights.parameters import matching


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

    def texts(self, concepts):
        return self.method.texts(self.bare(concepts))

    def solved(self, texts, concepts):
        return self.method.solved(texts, self.bare(concepts))

    def bare(self, concepts):
        return ConceptSet(erase={name: replaced(c, retain=[]) for name, c in concepts.erase.items()})


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
@pytest.mark.parametrize("embedding", EMBEDDINGS)
@torch.no_grad()
def test_golden_embedding(embedding, golden, golden_tiny):
    case = golden_case(golden, "rece/embedding_variants")
    start, originals = case.weights("start."), matching(golden_tiny, "cross_attention_kv")
    stacked, edited = (
        torch.cat([weights[name].double() for name in start]) for weights in (originals, start)
    )
    matrix = torch.linalg.lstsq(stacked, edited).solution
    layers = Layers(original=gram(stacked), matrix=matrix, edited=gram(stacked @ matrix))
    texts = [case.inputs["concept"], case.inputs["old_target_concept"]]
    concept, anchor = golden_tiny.encode(texts).tokens.double()
    found = revive(concept, anchor, layers, case.inputs["regular_scale"], embedding)
    name = (
        embedding.removeprefix("close_")
        .replace("surrogatereg", "surrogate")
        .replace("standardreg", "standard")
    )
    assert relative(found, case.tensors[f"adv.{name}"]) < case.tolerance[f"adv.{name}"]["tol"]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def case():
    """Original layers, a map that edits them, what revival needs of them, and embeddings."""
    weights = [randn(20, 12, seed=seed) for seed in range(3)]
    change, readout = randn(12, 12, seed=5), 0.2 * torch.eye(12, dtype=torch.float64)
    layers = Layers.unedited(gram(*weights)).edit(change, readout)
    return weights, layers, randn(4, 12, seed=6), randn(4, 12, seed=7)


@pytest.mark.parametrize("rows", [3, 12])
def test_edits_of_all_layers_at_once(rows):
    """Few rows and many go different ways; the second edit starts from a map that is not the identity."""
    weights = [randn(20, 12, seed=seed) for seed in range(3)]
    layers, matrix = Layers.unedited(gram(*weights)), torch.eye(12, dtype=torch.float64)
    for seed in (3, 5):
        change, readout = 0.3 * randn(rows, 12, seed=seed), randn(rows, 12, seed=seed + 1)
        layers = layers.edit(change, readout)
        matrix = matrix @ (torch.eye(12) + change.T @ readout)
    edited = [weight @ matrix for weight in weights]
    assert relative(layers.matrix, matrix) < 1e-12
    assert relative(layers.edited, gram(*edited)) < 1e-12
    assert torch.equal(layers.original, gram(*weights))


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_the_reviving_embedding_minimises_its_objective(embedding, case):
    weights, layers, concept, anchor = case
    found = revive(concept, anchor, layers, 0.3, embedding).requires_grad_()
    edited = [weight @ layers.matrix for weight in weights]
    errors = sum((found @ e.T - concept @ w.T).square().sum() for e, w in zip(edited, weights, strict=True))
    outputs = sum(((found - concept) @ e.T).square().sum() for e in edited)
    pull = {
        "close_regzero": found.square().sum(),
        "close_standardreg": (found - anchor).square().sum(),
        "close_surrogatereg_1st": outputs,
        "close_surrogatereg_2nd": (found - concept).square().sum(),
        "close_surrogatereg_both": (found - concept).square().sum() + outputs,
    }
    (errors + 0.3 * pull[embedding]).backward()
    assert found.grad.abs().max() < 1e-9


def test_without_mu_the_concept_comes_back_exactly_in_every_layer(case):
    weights, layers, concept, anchor = case
    found = revive(concept, anchor, layers, 0.0)
    assert all(relative(found @ (w @ layers.matrix).T, concept @ w.T) < 1e-10 for w in weights)


def test_mu_shortens_the_embedding_and_spoils_the_revival(case):
    weights, layers, concept, anchor = case
    found = [revive(concept, anchor, layers, mu) for mu in (0.0, 0.1, 1.0, 10.0)]
    lengths = [float(f.norm()) for f in found]
    errors = [sum(float((f @ (w @ layers.matrix).T - concept @ w.T).norm()) for w in weights) for f in found]
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
        matrix, _ = method.found(tiny, concepts, plans, gram(*weights))
        edited = [weight.clone() for weight in weights]
        apply_map(edited, matrix)
        step = (matrix - torch.eye(len(matrix))).T
        layers = Layers.unedited(gram(*weights)).edit(step, torch.eye(len(matrix), dtype=torch.float64))
        found = revive(church, church, layers, 0.1)
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
        ("erase_scale=-1", "erase_scale: must be a number above 0"),
        ("embedding=regzero", "embedding: Unknown embedding 'regzero'. Did you mean 'close_regzero'"),
        ("start.technique=tensor", "start.technique: must be 'replace'"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        configured("rece", override)
