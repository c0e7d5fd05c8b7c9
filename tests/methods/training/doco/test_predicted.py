"""What the original model predicts on noised images of anchors."""

from __future__ import annotations

import pytest
import torch
from method_cases import concept_set, configured

from unlearn.methods.training.doco.predicted import Predicted
from unlearn.methods.training.material.anchors import Anchors
from unlearn.models.weights.parameters import select


@pytest.fixture
def anchors(tiny, context):
    sampler = configured("doco", "sampler.steps=3").sampler
    return Anchors.draw(tiny, concept_set("church", "cat"), 5, sampler, context)


def test_every_prediction_is_of_its_latents_and_its_sentence(tiny, context, anchors):
    predicted = Predicted.draw(tiny, anchors, 12, 3, context)
    seen = []
    for step in range(4):
        batch = predicted.batch(tiny, 3, step, context)
        with torch.no_grad():
            mistaken = tiny.predict(batch.latents, batch.timesteps, batch.erased)
        assert torch.allclose(batch.mistaken, mistaken, rtol=1e-4, atol=1e-5)
        for k in range(3):
            others = [
                tiny.predict(batch.latents[[k]], batch.timesteps[[k]], anchors.anchored[[row]])
                for row in range(len(anchors.anchored))
            ]
            assert min(float((each - batch.anchored[k]).abs().max()) for each in others) < 1e-4
        seen += batch.timesteps.tolist()
    assert len(set(seen)) > 6
    assert len({tuple(each.flatten().tolist()) for each in predicted.anchored}) == 12


def test_the_sentence_to_erase_is_a_partner_of_the_image_s_own(tiny, context, anchors):
    from unlearn.methods.training.doco.predicted import _scenes

    _, _, erased, anchored = _scenes(tiny, anchors, torch.arange(10), context)
    for k in range(10):
        row = k % 5 % len(anchors.partners)
        assert torch.equal(anchored.tokens[k], anchors.anchored.tokens[row])
        assert any(
            torch.equal(erased.tokens[k], anchors.erased.tokens[each]) for each in anchors.partners[row]
        )


def test_predictions_are_the_original_s_whatever_is_trained(tiny, context, anchors):
    predicted = Predicted.draw(tiny, anchors, 4, 4, context)
    before = predicted.batch(tiny, 4, 0, context)
    with select(tiny, "cross_attention_kv") as selection:
        for parameter in selection.parameters.values():
            parameter.data += 0.1
        after = predicted.batch(tiny, 4, 0, context)
    assert torch.equal(before.anchored, after.anchored)
    assert torch.equal(before.latents, after.latents)


def test_a_killed_run_s_predictions_are_taken_up(tiny, context, anchors):
    first = Predicted.draw(tiny, anchors, 6, 2, context)
    before = tiny.forwards
    again = Predicted.draw(tiny, anchors, 6, 2, context)
    assert tiny.forwards == before
    assert torch.equal(first.anchored, again.anchored)
    assert torch.equal(first.mistaken, again.mistaken)
