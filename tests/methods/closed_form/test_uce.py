"""UCE: the two releases, and what an edit does to a model."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, golden_case, pairs, relative

from unlearn.methods.closed_form.solver import TextRows
from unlearn.models.model import Conditioning
from unlearn.models.weights.maps import compose

CASES_2025 = ["object_preserve", "style_to_art", "style_to_empty", "object_expand_prompts", "multi_five"]
CASES_2023 = ["object_retain", "style_to_empty", "tensor_technique"]


def assert_edited(weights, case) -> None:
    expected = case.weights("edited.")
    assert weights.keys() == expected.keys()
    tolerance = case.tolerance["edited.*"]["tol"]
    assert max(relative(weights[name], expected[name]) for name in expected) < tolerance


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES_2025)
def test_golden_2025(name, golden, golden_tiny, context):
    case = golden_case(golden, f"uce/{name}")
    texts = case.inputs["resolved"]
    guides = texts["guide_concepts"]
    concepts = pairs(
        texts["edit_concepts"],
        guides * len(texts["edit_concepts"]) if len(guides) == 1 else guides,
        texts["preserve_concepts"],
    )
    method = configured(
        "uce",
        f"erase_scale={case.inputs['erase_scale']}",
        f"preserve_scale={case.inputs['preserve_scale']}",
        f"ridge={case.inputs['lamb']}",
    )
    assert_edited(method.erase(golden_tiny, concepts, context).weights, case)


@pytest.mark.golden
def test_templates_are_the_expanded_prompts_of_2025(golden, golden_tiny, context):
    case = golden_case(golden, "uce/object_expand_prompts")
    cli = {
        key: [text.strip() for text in value.split(";")] if isinstance(value, str) else value
        for key, value in case.inputs["cli"].items()
    }
    kinds = ("image", "photo", "portrait", "picture", "painting")
    method = configured(
        "uce",
        f"erase_scale={case.inputs['erase_scale']}",
        f"preserve_scale={case.inputs['preserve_scale']}",
        f"ridge={case.inputs['lamb']}",
    )
    method.templates = ["{}", *(f"{kind} of {{}}" for kind in kinds)]
    concepts = pairs(cli["edit_concepts"], cli["guide_concepts"], cli["preserve_concepts"])
    assert_edited(method.erase(golden_tiny, concepts, context).weights, case)


@pytest.mark.golden
@pytest.mark.parametrize("name", CASES_2023)
def test_golden_2023(name, golden, golden_tiny, context):
    case = golden_case(golden, f"uce_legacy/{name}")
    retain = case.inputs["retain_texts"] or [""]
    assert retain[0] == ""
    method = configured(
        "uce_2023",
        f"erase_scale={case.inputs['erase_scale']}",
        f"preserve_scale={case.inputs['preserve_scale']}",
        f"ridge={case.inputs['lamb']}",
        f"technique={case.inputs['technique']}",
    )
    concepts = pairs(case.inputs["old_texts"], case.inputs["new_texts"], retain[1:])
    assert_edited(method.erase(golden_tiny, concepts, context).weights, case)


@pytest.mark.golden
@pytest.mark.parametrize(("name", "folder"), [("uce", "uce"), ("uce_moderate", "uce_legacy")])
def test_moderation_is_the_released_edit_towards_the_empty_text(name, folder, golden, golden_tiny, context):
    """Whatever the concepts' anchors are."""
    case = golden_case(golden, f"{folder}/style_to_empty")
    old = case.inputs["resolved"]["edit_concepts"] if folder == "uce" else case.inputs["old_texts"]
    kept = (
        case.inputs["resolved"]["preserve_concepts"]
        if folder == "uce"
        else (case.inputs["retain_texts"] or [""])[1:]
    )
    method = configured(
        name,
        *["guide=''"] * (name == "uce"),
        f"erase_scale={case.inputs['erase_scale']}",
        f"preserve_scale={case.inputs['preserve_scale']}",
        f"ridge={case.inputs['lamb']}",
    )
    assert_edited(method.erase(golden_tiny, pairs(old, ["a dog"] * len(old), kept), context).weights, case)


def test_a_guide_takes_the_place_of_every_anchor():
    own, guided = configured("uce"), configured("uce", "guide=cat")
    concepts = concept_set("church", "parachute")
    assert own.pairs(concepts) == [("church", "dog"), ("parachute", "dog")]
    assert guided.pairs(concepts) == [("church", "cat"), ("parachute", "cat")]
    assert configured("uce_moderate").pairs(concepts) == [("church", ""), ("parachute", "")]


def solved(method, model, concepts):
    return method.solved(TextRows.encode(model, method.texts(concepts)), concepts)


@torch.no_grad()
def test_the_edited_model_sees_the_original_embeddings_through_the_map(tiny, context):
    method, concepts = configured("uce"), concept_set("church")
    rows, solution = solved(method, tiny, concepts)
    matrix = solution.map(rows.erased, rows.targets)
    encoded = tiny.encode(["a photo of a church"]).tokens
    mapped = Conditioning((encoded.double() @ matrix.T).float())
    latents, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(500)
    with tiny.erased(method.erase(tiny, concepts, context)):
        edited = tiny.predict(latents, t, Conditioning(encoded))
    through = tiny.predict(latents, t, mapped)
    original = tiny.predict(latents, t, Conditioning(encoded))
    assert relative(edited, through) < 1e-4 * relative(edited, original) + 1e-6
    assert relative(edited, original) > 1e-4


def test_the_concept_reaches_its_anchor_and_what_is_retained_stays(tiny, context):
    erasure = configured("uce", "preserve_scale=10", "ridge=0.01").erase(tiny, concept_set("church"), context)
    assert erasure.history[0]["residual"] < 0.01
    assert erasure.history[0]["drift"] < 0.01


def test_one_after_another_is_the_product_of_both_and_not_the_joint_edit(tiny, context):
    method = configured("uce")
    church, cat = (method.erase(tiny, concept_set(name), context) for name in ("church", "cat"))
    with tiny.erased(church):
        later = method.erase(tiny, concept_set("cat"), context)
    product = compose(tiny, [church, cat])
    joint = method.erase(tiny, concept_set("church", "cat"), context)
    assert torch.equal(later.map, cat.map)
    for name, weight in product.weights.items():
        assert relative(weight, later.weights[name]) < 1e-6
    assert relative(product.map, joint.map) > 1e-3


def test_erasing_again_moves_on_from_the_anchor(tiny, context):
    """The anchor is no fixed point: a concept that is mapped to it is mapped again with it."""
    method, concepts = configured("uce"), concept_set("church", retain=[])
    once = method.erase(tiny, concepts, context)
    twice = compose(tiny, [once, once])
    rows, _ = solved(method, tiny, concepts)
    unit = (rows.erased - rows.targets).norm()
    left = [float((rows.erased @ e.map.T - rows.targets).norm() / unit) for e in (once, twice)]
    assert left[0] < 0.05
    assert left[1] > 0.2


def test_last_content_token(tiny):
    texts = TextRows.encode(tiny, ["", " ", "church", "a church"])
    assert texts.last[""] == texts.last[" "] == 0
    ids = tiny.tokenize(["church", "a church"])
    for text, row in zip(["church", "a church"], ids, strict=True):
        assert row[texts.last[text] + 1] == tiny.tokenizer.eos_token_id
        assert row[texts.last[text]] != tiny.tokenizer.eos_token_id
    assert texts.last["a church"] == texts.last["church"] + 1


def test_the_two_releases_differ(tiny, context):
    new, old = (configured(name).erase(tiny, concept_set("church"), context) for name in ("uce", "uce_2023"))
    assert min(relative(new.weights[name], old.weights[name]) for name in new.weights) > 0.01


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokens=first", "tokens: Unknown tokens 'first'.*window"),
        ("technique=tensr", "Did you mean 'tensor'"),
        ("templates=[photo]", "templates: each must be a text with {}"),
        ("erase_scale=0", "erase_scale: must be a number above 0, got 0"),
        ("preserve_scale=-1", "preserve_scale: must be a number from 0 up"),
        ("ridge=-1", "ridge: must be a number from 0 up"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        configured("uce", override)
