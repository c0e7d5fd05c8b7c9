"""The start token in cross-attention."""

from __future__ import annotations

import torch

from unlearn.models.start_token import start_token_detached
from unlearn.models.weights.parameters import select


def gradients(model, selection, tokens: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    from unlearn.models.model import Conditioning

    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    predicted = model.predict(latents, torch.tensor([100, 700]), Conditioning(tokens))
    loss = predicted.square().mean()
    found = torch.autograd.grad(loss, list(selection.parameters.values()))
    return predicted.detach(), dict(zip(selection.parameters, found, strict=True))


def test_predictions_stay_and_the_start_token_teaches_nothing(tiny, monkeypatch):
    """Against a second pair of projections for the start token alone, that no gradient reaches."""
    with torch.no_grad():
        tokens = tiny.encode(["church", "a cat"]).tokens
    with select(tiny, "cross_attention_kv") as selection:
        plain, with_start = gradients(tiny, selection, tokens)
        with start_token_detached(tiny):
            detached, without_start = gradients(tiny, selection, tokens)
        again, _ = gradients(tiny, selection, tokens)

        forward = torch.nn.Linear.forward
        projections = {
            id(module)
            for name, module in tiny.parts["unet"].named_modules()
            if name.endswith(("attn2.to_k", "attn2.to_v"))
        }

        def split(module, x):
            if id(module) not in projections:
                return forward(module, x)
            first = x[:, :1] @ module.weight.detach().T
            return torch.cat([first, forward(module, x[:, 1:])], dim=1)

        monkeypatch.setattr(torch.nn.Linear, "forward", split)
        _, expected = gradients(tiny, selection, tokens)
    assert torch.equal(plain, detached)
    assert torch.equal(plain, again)
    for name, gradient in without_start.items():
        assert torch.allclose(gradient, expected[name], atol=1e-8), name
        assert not torch.allclose(gradient, with_start[name], rtol=1e-2, atol=1e-8), name


def test_queries_learn_from_the_start_token_as_before(tiny):
    """Only keys and values are shared by all prompts."""
    with torch.no_grad():
        tokens = tiny.encode(["church", "a cat"]).tokens
    with select(tiny, ["unet.*attn2.to_q.*"]) as selection:
        _, plain = gradients(tiny, selection, tokens)
        with start_token_detached(tiny):
            _, detached = gradients(tiny, selection, tokens)
    assert all(torch.equal(plain[name], detached[name]) for name in plain)
