"""SalUn: which weights are salient, that no others move, and what it costs."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured, golden_case, interrupted

from unlearn.methods.training import salun
from unlearn.methods.training.material.aligned import aligned
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.material.relabelling import Relabelling
from unlearn.models.weights.parameters import matching, select


@pytest.mark.golden
@pytest.mark.parametrize("name", ["mask_half", "mask_tenth"])
def test_golden(name, golden):
    case = golden_case(golden, f"salun/{name}")
    gradients = {
        key.removeprefix("grad."): value for key, value in case.tensors.items() if key.startswith("grad.")
    }
    masks = salun.salient(gradients, case.inputs["threshold"])
    expected = {
        key.removeprefix("mask."): value for key, value in case.tensors.items() if key.startswith("mask.")
    }
    assert masks.keys() == expected.keys()
    assert all(torch.equal(masks[key], expected[key].bool()) for key in expected)


@pytest.mark.parametrize("share", [0.004, 0.1, 0.5, 0.999, 1.0])
def test_the_salient_are_the_largest_of_all_parameters_together(share):
    random = torch.Generator().manual_seed(0)
    gradients = {"a": torch.randn(20, 30, generator=random), "b": 3 * torch.randn(40, generator=random)}
    masks = salun.salient(gradients, share)
    sizes = torch.cat([gradient.abs().flatten() for gradient in gradients.values()])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert kept.sum() == int(share * 640)
    order = sizes.argsort(descending=True)
    assert torch.equal(kept.nonzero().flatten(), order[: int(share * 640)].sort().values)


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValueError, match="share: must leave at least one of 3 numbers, got"):
        salun.salient({"a": torch.ones(3)}, 0.1)


def small(*overrides: str, name: str = "salun") -> salun.SalUn:
    base = ("steps=4", "batch_size=2", "images=4", "sampler.steps=3", "optimizer.lr=1e-3")
    return configured(name, *base, *overrides)


def images(model, method, context) -> Relabelling:
    return Relabelling.draw(model, concept_set("church"), method.images, method.sampler, context)


def test_gradients_of_guided_predictions_add_up_with_their_signs(tiny, context):
    """Against one image at a time, one prediction at a time."""
    method = small()
    method.parameters = ["cross_attention_kv"]
    forget = images(tiny, method, context).forget
    with select(tiny, method.parameters) as selection:
        found = method.gradients(tiny, selection, forget, context)
        total = [torch.zeros_like(parameter) for parameter in selection.parameters.values()]
        for number in range(2):
            chosen = torch.tensor([2 * number, 2 * number + 1])
            clean, sentences = forget.batch(chosen)
            noised = Noised.draw(tiny, clean, context.generator("salun", "saliency", number))
            for i in range(2):
                x, t = noised.latents[i : i + 1], noised.timesteps[i : i + 1]
                conditional = tiny.predict(x, t, sentences[[i]])
                unconditional = tiny.predict(x, t, tiny.encode([""]))
                loss = (8.5 * conditional - 7.5 * unconditional - noised.target[i]).square().mean() / 2
                gradients = torch.autograd.grad(loss, list(selection.parameters.values()))
                total = [a + b for a, b in zip(total, gradients, strict=True)]
    assert list(found) == list(selection.parameters)
    for gradient, expected in zip(found.values(), total, strict=True):
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["adam", "sgd"])
def test_what_is_not_salient_stays_bit_for_bit(algorithm, tiny, context):
    method = small("share=0.3", f"optimizer.algorithm={algorithm}")
    erasure = method.erase(tiny, concept_set("church"), context)
    from safetensors.torch import load_file

    masks = load_file(context.scratch / "salient.safetensors")
    originals = matching(tiny, "denoiser")
    assert masks.keys() == originals.keys()
    moved = still = 0
    for name, original in originals.items():
        new = erasure.weights.get(name, original)
        assert torch.equal(new[~masks[name]], original[~masks[name]]), name
        moved += int((new != original).sum())
        still += int((~masks[name]).sum())
    total = sum(p.numel() for p in originals.values())
    assert total - still == pytest.approx(0.3 * total, abs=1)
    assert moved > 0.9 * (total - still)


def test_the_step_follows_the_formula(tiny, context):
    """Against one prediction at a time, of the sentences themselves."""
    method = small("retain_scale=0.3")
    method.parameters = ["cross_attention_kv"]
    drawn = images(tiny, method, context)
    pairs = aligned(concept_set("church"), 4, None, "anchor", context)
    others = aligned(concept_set("church"), 4, None, "retained", context)
    with select(tiny, method.parameters) as selection:
        parameters = list(selection.parameters.values())
        masks = [torch.rand(p.shape, generator=torch.Generator().manual_seed(0)) > 0.5 for p in parameters]
        step = method.composed(tiny, selection, masks, drawn, 1, context)

        random = context.generator("salun", "step", 1)
        chosen = shuffled(4, 2, 1, context, "relabelling", "forget")
        noised = Noised.draw(tiny, drawn.forget.clean[chosen], random)
        kept = shuffled(4, 2, 1, context, "relabelling", "retain")
        again = Noised.draw(tiny, drawn.retain.clean[kept], random)
        forgetting = retaining = 0
        for i in range(2):
            x, t = noised.latents[i : i + 1], noised.timesteps[i : i + 1]
            old, new = (tiny.encode([sentence]) for sentence in pairs[chosen[i]])
            target = tiny.predict(x, t, new).detach()
            forgetting = forgetting + (tiny.predict(x, t, old) - target).square().mean() / 2
            x, t = again.latents[i : i + 1], again.timesteps[i : i + 1]
            predicted = tiny.predict(x, t, tiny.encode([others[kept[i]][1]]))
            retaining = retaining + (predicted - again.target[i]).square().mean() / 2
        expected = torch.autograd.grad(forgetting + 0.3 * retaining, parameters)
    assert step.values["forgetting"] == pytest.approx(forgetting.item(), rel=1e-3)
    assert step.values["retaining"] == pytest.approx(retaining.item(), rel=1e-3)
    assert step.values["loss"] == pytest.approx(forgetting.item() + 0.3 * retaining.item(), rel=1e-3)
    for found, wanted, mask in zip(step.gradients, expected, masks, strict=True):
        assert torch.allclose(found, wanted * mask, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "met"), [("salun", 4), ("salun_released", 2)])
def test_all_images_are_trained_on_but_by_the_released_code(name, met, tiny, context, monkeypatch):
    seen = {"forget": set(), "retain": set()}
    batch = salun.Images.batch

    def watched(self, chosen):
        clean, sentences = batch(self, chosen)
        if torch.is_grad_enabled():
            for image in clean:
                seen["forget" if any(torch.equal(image, each) for each in forget.clean) else "retain"].add(
                    image.sum().item()
                )
        return clean, sentences

    method = small("share=0.5", name=name)
    forget = images(tiny, method, context).forget
    monkeypatch.setattr(
        salun.SalUn,
        "gradients",
        lambda *_: {key: torch.rand(p.shape) for key, p in matching(tiny, "denoiser").items()},
    )
    monkeypatch.setattr(salun.Images, "batch", watched)
    method.erase(tiny, concept_set("church"), context)
    assert {key: len(each) for key, each in seen.items()} == {"forget": met, "retain": met}


def test_no_forward_is_wasted(tiny, context):
    """Two a step of each image, two for the saliency of each, and three for each pair trained on."""
    method = small()
    before = tiny.forwards
    method.erase(tiny, concept_set("church"), context)
    drawing = 2 * method.images * method.sampler.steps * 2
    assert tiny.forwards - before == drawing + 2 * method.images + 3 * method.steps * method.batch_size


def test_interrupted_and_resumed_is_undisturbed(tiny, tmp_path, monkeypatch):
    method, concepts = small("steps=5"), concept_set("church", "cat")
    interrupted(tiny, method, concepts, tmp_path, monkeypatch, 3, until=2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("share=0", "share: must be above 0 and at most 1"),
        ("share=1.5", "share: must be above 0 and at most 1"),
        ("guidance=-1", "guidance: must be a number from 0 up"),
        ("retain_scale=-1", "retain_scale: must be a number from 0 up"),
        ("images=0", "images: must be at least 1"),
        ("optimizer.weight_decay=0.01", "optimizer.weight_decay: must be 0"),
    ],
)
def test_wrong_values(override, message):
    with pytest.raises(ValueError, match=message):
        small(override)
