"""Training steps give the gradients of the plain recipe that they are measured against in the bench."""

from __future__ import annotations

import copy

import pytest
import torch
from method_cases import concept_set, configured

from scripts.bench.training import Plain, advunlearn_gradients, doco_gradients, esd_gradients, opened
from unlearn.methods.training.advunlearn.advunlearn import Duel
from unlearn.methods.training.doco import doco
from unlearn.methods.training.doco.discriminator import Opponent
from unlearn.models.model import Conditioning
from unlearn.models.start_token import start_token_detached

#: So large that the weights before do not count.
RATE = 1e6


def gradients(method, model, context) -> dict[str, torch.Tensor]:
    """What one step of plain descent follows, by parameter."""
    own = dict(model.named_parameters())
    weights = method.erase(model, concept_set("church"), context).weights
    return {name: (own[name].detach() - weight) / RATE for name, weight in weights.items()}


def assert_same(found, expected) -> None:
    """To 1e-5 relative, over all that is trained."""
    assert all(value.any() for value in found.values())
    error = sum((a - b).square().sum() for a, b in zip(found.values(), expected, strict=True))
    assert error.sqrt() < 1e-5 * sum(b.square().sum() for b in expected).sqrt()


@pytest.fixture
def calls(tiny, monkeypatch):
    """Latents, timesteps and conditioning of every prediction that is differentiated."""
    found, predict = [], type(tiny).predict

    def recorded(self, *arguments):
        if torch.is_grad_enabled():
            found.append(arguments)
        return predict(self, *arguments)

    monkeypatch.setattr(type(tiny), "predict", recorded)
    return found


def one_step(name: str, *overrides: str):
    descent = ("steps=1", "optimizer.algorithm=sgd", f"optimizer.lr={RATE}", "optimizer.weight_decay=0")
    return configured(name, *descent, "batch_size=2", "sampler.steps=4", *overrides)


def test_esd(tiny, context, calls):
    method = one_step("esd", "states=2")
    found = gradients(method, tiny, context)
    ((latents, t, concept),) = calls
    plain, empty = Plain.copied(tiny), tiny.encode([""])
    with opened(tiny, method) as selection:
        parameters = list(selection.parameters.values())
        expected = esd_gradients(plain, latents, t, concept, empty, method.negative_guidance, parameters)
    assert_same(found, expected)


def test_advunlearn(tiny, context, calls, monkeypatch):
    visits, visited = [], Duel.visited

    def recorded(self, *arguments):
        states = visited(self, *arguments)
        visits.append((self, states))
        return states

    embedded, encode = [], type(tiny).encode_embeddings
    monkeypatch.setattr(Duel, "visited", recorded)
    monkeypatch.setattr(
        type(tiny), "encode_embeddings", lambda self, e, *rest: embedded.append(e) or encode(self, e, *rest)
    )
    method = one_step(
        "advunlearn",
        "warmup=0",
        "attack.steps=2",
        "retain_batch_size=3",
        "trajectories=2",
        "retain_trajectories=4",
        "states=2",
    )
    found = gradients(method, tiny, context)
    duel, states = visits[-1]
    attacked, said = embedded[-1].detach().split([2, 3])
    assert not torch.allclose(attacked, tiny.embed(duel.slots.plain[states.prompts[:2]]))
    plain, empty = Plain.copied(tiny), tiny.encode([""])
    with torch.no_grad():
        concept = tiny.encode_embeddings(tiny.embed(duel.slots.plain[states.prompts[:2]]))
        captions = tiny.encode_embeddings(tiny.embed(duel.captions[states.prompts[2:] - len(duel.gamma)]))
    x, y = states.latents.split([2, 3])
    t, u = states.timesteps.split([2, 3])
    with opened(tiny, method) as selection:
        expected = advunlearn_gradients(
            plain,
            (x, t, concept, attacked),
            (y, u, captions, said),
            empty,
            method.negative_guidance,
            method.retain_scale["object"],
            list(selection.parameters.values()),
        )
    assert len(calls) == 2 + 1 + 2  # the attack's, ours in one, the plain ones apart
    assert_same(found, expected)


def test_doco(tiny, context, calls, monkeypatch):
    opponents, begin = [], Opponent.begin
    kept, draw = [], doco.Noised.draw

    def begun(*arguments):
        opponent = begin(*arguments)
        opponents.append(copy.deepcopy(opponent))
        return opponent

    monkeypatch.setattr(Opponent, "begin", begun)
    monkeypatch.setattr(doco.Noised, "draw", lambda *a: kept.append(draw(*a)) or kept[-1])
    method = one_step("doco", "warmup=0", "images=4", "draws=1")
    found = gradients(method, tiny, context)
    (x, t, erased), (y, u, anchored) = calls
    plain = Plain.copied(tiny)
    with opened(tiny, method) as selection, start_token_detached(tiny):
        parameters = list(selection.parameters.values())
        both = Conditioning.cat([erased, anchored])
        target = kept[-1].target
        latents, times = torch.cat([x, y]), torch.cat([t, u])
        expected, _ = doco_gradients(method, plain, opponents[0], latents, times, both, target, parameters)
        expected = expected()
    assert_same(found, expected)
