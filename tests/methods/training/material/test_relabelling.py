"""Images with a new label, and images of what stays."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set

from unlearn.methods.training.material.aligned import aligned
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.material.relabelling import Relabelling, losses
from unlearn.models.sampling import Sampler

SAMPLER = Sampler(scheduler="ddim", steps=3, guidance=3.0, resolution=32, batch_size=4)


@pytest.fixture
def images(tiny, context) -> Relabelling:
    return Relabelling.draw(tiny, concept_set("church", "cat"), 4, SAMPLER, context)


@torch.no_grad()
def test_tasks_are_those_of_the_sentences(tiny, context, images):
    concepts = concept_set("church", "cat")
    pairs = aligned(concepts, 4, None, "anchor", context)
    others = aligned(concepts, 4, None, "retained", context)
    random = context.generator("test")
    forget, retain = images.tasks(tiny, 3, 1, random, context)
    again = context.generator("test")
    chosen = shuffled(4, 3, 1, context, "relabelling", "forget")
    noised = Noised.draw(tiny, images.forget.clean[chosen], again)
    assert torch.equal(forget.latents, noised.latents)
    for i, number in enumerate(chosen.tolist()):
        old, new = (tiny.encode([sentence]) for sentence in pairs[number])
        assert torch.allclose(forget.sentences.tokens[i], old.tokens[0], atol=1e-5)
        target = tiny.predict(noised.latents[[i]], noised.timesteps[[i]], new)
        assert torch.allclose(forget.target[i], target[0], atol=1e-5)
    kept = shuffled(4, 3, 1, context, "relabelling", "retain")
    noised = Noised.draw(tiny, images.retain.clean[kept], again)
    assert torch.equal(retain.latents, noised.latents)
    assert torch.equal(retain.target, noised.target)
    texts = [others[number][1] for number in kept.tolist()]
    assert torch.allclose(retain.sentences.tokens, tiny.encode(texts).tokens, atol=1e-5)


@torch.no_grad()
def test_several_tasks_take_one_forward_pass(tiny, context, images):
    tasks = images.tasks(tiny, 2, 0, context.generator("test"), context)
    passes = []
    hook = tiny.parts["unet"].register_forward_hook(lambda *_: passes.append(1))
    together = losses(tiny, *tasks)
    hook.remove()
    assert len(passes) == 1
    for loss, task in zip(together, tasks, strict=True):
        assert loss.item() == pytest.approx(losses(tiny, task)[0].item(), rel=1e-4)
        predicted = tiny.predict(task.latents, task.timesteps, task.sentences)
        assert loss.item() == pytest.approx((predicted - task.target).square().mean().item(), rel=1e-4)
