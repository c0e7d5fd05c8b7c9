"""What cross-attention puts out."""

from __future__ import annotations

import torch

from unlearn.models.weights.attention import outputs


def test_outputs_are_those_of_every_block_with_gradients_and_leave_no_hook(tiny):
    latents, prompts = torch.randn(2, 4, 8, 8), tiny.encode(["a church", "a cat"])
    prompts.tokens.requires_grad_()
    blocks = {name: m for name, m in tiny.parts["unet"].named_modules() if name.endswith("attn2")}
    met = {}
    hooks = [
        block.register_forward_hook(
            lambda _module, inputs, named, output, name=name: met.update({name: (inputs, named, output)}),
            with_kwargs=True,
        )
        for name, block in blocks.items()
    ]
    with outputs(tiny) as found:
        predicted = tiny.predict(latents, torch.tensor(300), prompts)
    for hook in hooks:
        hook.remove()
    assert len(found) == len(blocks) == 7
    channels = {16, 32}
    for output, (inputs, named, own) in zip(found, met.values(), strict=True):
        assert output is own
        assert output.shape[0] == 2
        assert output.shape[1] in (64, 16)
        assert output.shape[2] in channels
        assert inputs
        assert torch.equal(named["encoder_hidden_states"], prompts.tokens)
    (gradient,) = torch.autograd.grad(found[0].sum(), prompts.tokens)
    assert gradient.abs().max() > 0
    again = tiny.predict(latents, torch.tensor(300), prompts)
    assert torch.equal(again, predicted)
    assert len(found) == 7
