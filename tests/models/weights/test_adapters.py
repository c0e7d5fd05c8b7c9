"""Low-rank additions: what they add, to which samples, and how strongly."""

from __future__ import annotations

import pytest
import torch

from unlearn.models.weights.adapters import Strengths, adapted, added, unpacked
from unlearn.models.weights.parameters import matching

PATTERNS = ["unet.*attentions.*.weight", "!unet.*norm*"]


def shapes_of(model) -> dict[str, tuple[int, int]]:
    return {name: tuple(weight.shape[:2]) for name, weight in matching(model, PATTERNS).items()}


def drawn(model, count: int, rank: int) -> tuple[dict[str, tuple[int, int]], torch.Tensor]:
    shapes = shapes_of(model)
    size = sum(rank * (o + d) for o, d in shapes.values())
    return shapes, 0.2 * torch.randn(count, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def predicted(model, latents) -> torch.Tensor:
    prompts = model.encode(["church", "a cat", "a nude person"])
    return model.predict(latents, torch.tensor([100, 500, 900]), prompts)


@pytest.fixture
def latents(tiny) -> torch.Tensor:
    return torch.randn(3, *tiny.latent_shape(32), generator=torch.Generator().manual_seed(1))


def test_an_addition_is_one_to_the_weights(tiny, latents):
    """Of linear layers and of convolutions of single pixels."""
    from unlearn.models.erasure import Erasure

    shapes, vectors = drawn(tiny, 1, 2)
    factors = unpacked(vectors, shapes, 2)
    assert {weight.ndim for weight in matching(tiny, PATTERNS).values()} == {2, 4}
    weights = {
        name: weight + (factors[name][1] @ factors[name][0])[0].reshape(weight.shape)
        for name, weight in matching(tiny, PATTERNS).items()
    }
    with tiny.erased(Erasure(weights={name: weight.detach() for name, weight in weights.items()})):
        expected = predicted(tiny, latents)
    with adapted(tiny, factors):
        found = predicted(tiny, latents)
    plain = predicted(tiny, latents)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-2)


def test_vectors_are_unpacked_as_they_were_packed(tiny):
    shapes, vectors = drawn(tiny, 2, 3)
    factors = unpacked(vectors, shapes, 3)
    assert list(factors) == list(shapes)
    again = torch.cat([each.flatten(1) for both in factors.values() for each in both], dim=1)
    assert torch.equal(again, vectors)
    assert all(
        down.shape == (2, 3, shapes[name][1]) and up.shape == (2, shapes[name][0], 3)
        for name, (down, up) in factors.items()
    )


def test_each_sample_takes_each_rank_as_strongly_as_it_is_told(tiny, latents):
    """Strength scales the product once, and a rank of strength 0 is not there."""
    shapes, vectors = drawn(tiny, 1, 2)
    factors = unpacked(vectors, shapes, 2)
    strengths = Strengths(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.3, 0.7]]))
    with added(tiny.parts, factors, strengths):
        found = predicted(tiny, latents)
    for row, values in enumerate(strengths.values):
        scaled = {name: (down, up * values) for name, (down, up) in factors.items()}
        with adapted(tiny, scaled):
            assert torch.allclose(found[row], predicted(tiny, latents)[row], atol=1e-5)
    assert torch.allclose(found[0], predicted(tiny, latents)[0], atol=1e-5)


def test_without_strengths_nothing_is_added(tiny, latents):
    shapes, vectors = drawn(tiny, 1, 1)
    strengths = Strengths()
    plain = predicted(tiny, latents)
    with added(tiny.parts, unpacked(vectors, shapes, 1), strengths):
        assert torch.equal(predicted(tiny, latents), plain)
        strengths.values = torch.ones(3, 1)
        assert not torch.allclose(predicted(tiny, latents), plain, atol=1e-3)
    assert torch.equal(predicted(tiny, latents), plain)
