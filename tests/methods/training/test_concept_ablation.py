"""Concept Ablation: its loss, its images, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from method_cases import concept_set, configured, golden_case, interrupted, relative

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context
from unlearn.methods.training import concept_ablation
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.material.pool import Noised
from unlearn.models.start_token import start_token_detached
from unlearn.models.weights.parameters import matching, select


@pytest.mark.golden
@pytest.mark.parametrize("name", ["model_based_prior", "noise_based"])
def test_golden(name, golden):
    """The released mask is for images that do not fill their square: here they are cut to what counts."""
    case = golden_case(golden, f"concept_ablation/{name}")
    inputs, tensors = case.inputs, case.tensors
    predicted = tensors["model_pred"].clone().requires_grad_()
    target, half = tensors["noise"], len(predicted)
    if inputs["with_prior_preservation"]:
        half //= 2
    if inputs["loss_type_reverse"] == "model-based":
        target = tensors["anchor_pred"]
    masks = tensors["mask"][:, 0] > 0
    parts = [
        concept_ablation.distance(predicted[i : i + 1, :, mask, None], target[i : i + 1, :, mask, None])
        for i, mask in enumerate(masks[:half])
    ]
    loss = torch.stack(parts).mean()
    if inputs["with_prior_preservation"]:
        again = (predicted[half:] - tensors["noise"][half:]).square().mean()
        loss = loss + inputs["prior_loss_weight"] * again
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert loss.item() == pytest.approx(case.outputs["loss"], rel=case.tolerance["loss (JSON)"]["tol"])
    assert relative(gradient, tensors["grad_model_pred"]) < case.tolerance["grad_model_pred"]["tol"]


def small(*overrides: str, name: str = "concept_ablation") -> concept_ablation.ConceptAblation:
    base = ("steps=4", "batch_size=2", "images=3", "sampler.steps=3", "optimizer.lr=1e-3")
    return configured(name, *base, *overrides)


def drawn(model, method, context, *phrases: str) -> Anchors:
    return Anchors.draw(model, concept_set(*phrases), method.images, method.sampler, context)


def by_hand(model, method, anchors: Anchors, step: int, context: Context) -> torch.Tensor:
    """The loss from one prediction at a time."""
    random = context.generator("concept_ablation", "step", step)
    batch = anchors.batch(method.batch_size, step, context)
    noised = Noised.draw(model, batch.clean, random)
    losses = []
    for i in range(method.batch_size):
        x, t = noised.latents[i : i + 1], noised.timesteps[i : i + 1]
        target = noised.target[i : i + 1]
        if method.target == "anchor":
            target = model.predict(x, t, batch.anchored[[i]])
        error = (model.predict(x, t, batch.erased[[i]]) - target).square()
        losses.append(error.sum() / (error.shape[2] * error.shape[3]))
    loss = sum(losses) / len(losses)
    if method.prior_scale:
        others = anchors.batch(method.batch_size, step, context, "prior")
        kept = Noised.draw(model, others.clean, random)
        again = model.predict(kept.latents, kept.timesteps, others.anchored) - kept.target
        loss = loss + method.prior_scale * again.square().mean()
    return loss


@pytest.mark.parametrize("name", ["concept_ablation", "concept_ablation_noise"])
@pytest.mark.parametrize("prior_scale", [0, 0.5])
def test_the_loss_is_the_formula(name, prior_scale, tiny, context):
    method = small(f"prior_scale={prior_scale}", name=name)
    anchors = drawn(tiny, method, context, "church", "cat")
    with select(tiny, method.parameters) as selection, start_token_detached(tiny):
        loss = method.loss(tiny, selection, anchors, 1, context)
        with torch.no_grad():
            expected = by_hand(tiny, method, anchors, 1, context)
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)


def test_teachers_are_the_weights_under_training_or_the_original_and_get_no_gradient(tiny, context):
    trained, original = small(), small("teacher=original")
    anchors = drawn(tiny, trained, context, "church")
    with select(tiny, trained.parameters) as selection, start_token_detached(tiny):
        first = [m.loss(tiny, selection, anchors, 0, context) for m in (trained, original)]
        assert torch.equal(*first)
        for parameter in selection.parameters.values():
            parameter.data *= 1.5
        by_trained, by_original = (m.loss(tiny, selection, anchors, 0, context) for m in (trained, original))
        expected = by_hand(tiny, trained, anchors, 0, context).item()
        assert by_trained.item() == pytest.approx(expected, rel=1e-4)
        assert by_original.item() != pytest.approx(by_trained.item(), rel=1e-3)

        parameters = list(selection.parameters.values())
        batch = anchors.batch(trained.batch_size, 0, context)
        noised = Noised.draw(tiny, batch.clean, context.generator("concept_ablation", "step", 0))
        with torch.no_grad():
            target = tiny.predict(noised.latents, noised.timesteps, batch.anchored)
        alone = concept_ablation.distance(
            tiny.predict(noised.latents, noised.timesteps, batch.erased), target
        )
        wanted = torch.autograd.grad(alone, parameters)
        found = torch.autograd.grad(by_trained, parameters)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(found, wanted, strict=True))


def test_images_show_the_anchor_and_meet_the_sentences_that_they_stand_for(tiny, context):
    """Each image is drawn once, for a sentence with the anchor, and meets all that this replaces."""
    own = concept_set("church").erase["church"]
    own = replace(own, phrases=["church", "chapel"], anchor="house", templates=["{a}", "{a} at dusk"])
    method = small("images=5")
    concepts = ConceptSet(erase={"church": own, "cat": concept_set("cat").erase["cat"]})
    counted = tiny.forwards
    anchors = Anchors.draw(tiny, concepts, 5, method.sampler, context)
    assert tiny.forwards - counted == 5 * method.sampler.steps * 2
    sentences = [new for c in concepts.erase.values() for _, new in c.sentence_pairs()]
    olds = list(dict.fromkeys(old for c in concepts.erase.values() for old, _ in c.sentence_pairs()))
    news = list(dict.fromkeys(sentences))
    assert torch.equal(anchors.anchored.tokens, tiny.encode(news).tokens)
    assert torch.equal(anchors.erased.tokens, tiny.encode(olds).tokens)
    assert [[olds[i] for i in rows] for rows in anchors.partners[:2]] == [
        ["a church", "a chapel"],
        ["a church at dusk", "a chapel at dusk"],
    ]
    met = set()
    for step in range(40):
        batch = anchors.batch(5, step, context)
        for i in range(5):
            image = next(n for n in range(5) if torch.equal(anchors.images[n], batch.clean[i]))
            assert torch.equal(batch.anchored.tokens[i], anchors.anchored.tokens[image % len(news)])
            old = next(
                n for n in range(len(olds)) if torch.equal(anchors.erased.tokens[n], batch.erased.tokens[i])
            )
            assert old in anchors.partners[image % len(news)]
            met.add((image, old))
    assert {(0, 0), (0, 2), (1, 1), (1, 3)} <= met


def test_the_concept_may_be_the_negative_prompt_of_the_images(tiny, context):
    plain = drawn(tiny, small(), context, "church")
    (context.scratch / "anchors.safetensors").unlink()
    method = small()
    away = Anchors.draw(tiny, concept_set("church"), method.images, method.sampler, context, negative=True)
    assert not torch.allclose(plain.images, away.images, atol=1e-3)


COSTS = {
    ("concept_ablation", 0): 2,
    ("concept_ablation", 1): 3,
    ("concept_ablation_noise", 0): 1,
    ("concept_ablation_noise", 1): 2,
}


@pytest.mark.parametrize(("name", "prior_scale"), COSTS)
def test_no_forward_is_wasted(name, prior_scale, tiny, context):
    method = small(f"prior_scale={prior_scale}", name=name)
    before = tiny.forwards
    method.erase(tiny, concept_set("church"), context)
    images = method.images * method.sampler.steps * 2
    trained = method.steps * method.batch_size * COSTS[name, prior_scale]
    assert tiny.forwards - before == images + trained


def test_nudity_trains_all_projections_of_all_attentions(tiny, context):
    erasure = small(name="concept_ablation_nudity").erase(tiny, concept_set("church"), context)
    names = {name for name in dict(tiny.named_parameters()) if ".attn1." in name or ".attn2." in name}
    assert erasure.weights.keys() == names
    assert erasure.weights.keys() == matching(tiny, ["unet.*attn1.*", "unet.*attn2.*"]).keys()


def test_training_comes_nearer_to_the_anchor(tiny, context):
    """On other noise than it was trained on."""
    method = small("steps=30", "images=4", "prior_scale=0", "teacher=original", "optimizer.lr=2e-3")
    erasure = method.erase(tiny, concept_set("church"), context)
    anchors = drawn(tiny, method, context, "church")
    batch = anchors.batch(8, 0, context)
    noised = Noised.draw(tiny, batch.clean, torch.Generator().manual_seed(1))

    def predicted(sentences) -> torch.Tensor:
        with torch.no_grad():
            return tiny.predict(noised.latents, noised.timesteps, sentences)

    wanted, before = predicted(batch.anchored), predicted(batch.erased)
    with tiny.erased(erasure):
        after = predicted(batch.erased)
    assert (after - wanted).square().mean() < 0.7 * (before - wanted).square().mean()


@pytest.mark.parametrize("name", ["concept_ablation", "concept_ablation_nudity"])
def test_interrupted_and_resumed_is_undisturbed(name, tiny, tmp_path, monkeypatch):
    method, concepts = small("steps=6", "prior_scale=1", name=name), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 1, 4, until=3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target=anchors", "target: Unknown target 'anchors'. Did you mean 'anchor'"),
        ("teacher=trainee", "teacher: Unknown teacher 'trainee'. Did you mean 'trained'"),
        ("prior_scale=-1", "prior_scale: must be a number from 0 up"),
        ("images=0", "images: must be at least 1"),
        ("steps=0", "steps: must be at least 1"),
        ("batch_size=0", "batch_size: must be at least 1"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
