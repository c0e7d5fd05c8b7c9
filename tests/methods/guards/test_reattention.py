"""Latent re-attention: its filter, and where it sits in a U-Net."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from unlearn.methods.guards.safree.reattention import ReAttention, damped


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def wave(x: int, y: int, size: int = 8) -> torch.Tensor:
    grid = torch.arange(size) * (2 * math.pi / size)
    return torch.cos(y * grid[:, None] + x * grid)[None, None]


def test_equal_features_stay_as_they_are():
    features = randn(2, 3, 8, 8)
    assert torch.equal(damped(features, features.clone(), 0.2), features)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 8])
def test_only_low_frequencies_that_have_grown_are_scaled(size):
    guarded, original = randn(2, 3, size, size), randn(2, 3, size, size, seed=1)
    result = damped(guarded, original, 0.3)
    before, reference, after = (torch.fft.fft2(x.double()) for x in (guarded, original, result))
    for v in range(size):
        for u in range(size):
            low = min(v, size - v) <= 1 and min(u, size - u) <= 1
            grown = low & (before[..., v, u].real > reference[..., v, u].real)
            expected = torch.where(grown, 0.3 * before[..., v, u], before[..., v, u])
            assert torch.allclose(after[..., v, u], expected, atol=1e-4)


def test_single_waves():
    low, high = wave(1, -1), wave(2, 0)
    assert torch.allclose(damped(low + high, high, 0.2), 0.2 * low + high, atol=1e-6)
    assert torch.allclose(damped(0.5 * low, low, 0.2), 0.5 * low, atol=1e-6)
    assert torch.allclose(damped(high, 0 * high, 0.2), high, atol=1e-6)


def test_half_precision_is_kept():
    features = randn(1, 2, 8, 8).half()
    assert damped(features, -features, 0.2).dtype == torch.float16


def seen(unet, scales, active):
    """What each resnet of the way up is given, without and with re-attention, for three branches of two."""
    sample, text = randn(6, 4, 8, 8), randn(6, 77, 32, seed=1)
    inputs = []
    handles = [
        resnet.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
        for block in unet.up_blocks
        for resnet in block.resnets
    ]
    held = ReAttention(scales)
    held.active = active
    try:
        with torch.no_grad(), held.attached(unet):
            # Ours comes after the hooks above, and changes what comes after them.
            output = unet(sample, 500, text).sample
    finally:
        for handle in handles:
            handle.remove()
    return inputs, output


def test_it_changes_the_guarded_branch_of_active_images_alone(tiny):
    unet = tiny.parts["unet"]
    _, plain = seen(unet, [0.9, 0.2], None)
    for active in ([True, False], [False, True], [True, True]):
        _, output = seen(unet, [0.9, 0.2], torch.tensor(active))
        changed = (output - plain).flatten(1).abs().amax(dim=1) > 1e-5
        assert changed.tolist() == [False, False, *active, False, False]
    _, output = seen(unet, [1.0, 1.0], torch.tensor([True, True]))
    assert torch.allclose(output, plain, atol=1e-5)
    _, output = seen(unet, [0.9, 0.2], None)
    assert torch.equal(output, plain)


def test_its_hooks_end_with_the_block(tiny):
    unet = tiny.parts["unet"]
    held = ReAttention([0.0, 0.0])
    with held.attached(unet):
        held.active = torch.tensor([True, True])
    sample, text = randn(6, 4, 8, 8), randn(6, 77, 32, seed=1)
    with torch.no_grad():
        assert torch.equal(unet(sample, 500, text).sample, seen(unet, [0.0, 0.0], None)[1])


def test_the_places_are_those_of_the_release():
    """Stable Diffusion's: width 1280 up to the first resnet of the third block, 640 up to the fourth's."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    held, places = ReAttention([0.9, 0.2]), {}

    def hook(hidden, scale):
        return lambda resnet, _inputs: places.setdefault(resnet, (hidden, scale))

    def called(resnet):
        return lambda registered: registered(resnet, ()) and SimpleNamespace(remove=lambda: None)

    held._hook = hook
    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.register_forward_pre_hook = called(resnet)
    with held.attached(unet):
        pass
    found = [[places.get(resnet) for resnet in block.resnets] for block in unet.up_blocks]
    deep, shallow = (1280, 0.9), (640, 0.2)
    assert found == [
        [deep, deep, deep],
        [deep, deep, deep],
        [deep, shallow, shallow],
        [shallow, None, None],
    ]
    skips = [resnet.in_channels - place[0] for resnet, place in places.items()]
    assert skips == [1280, 1280, 1280, 1280, 1280, 640, 640, 640, 320, 320]
