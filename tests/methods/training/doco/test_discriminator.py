"""DoCo's opponent: against the authors' code, and whether it can tell one kind from another."""

from __future__ import annotations

import pytest
import torch
from golden_cases import golden_case, relative
from torch import nn

from unlearn.methods.training.doco.discriminator import Discriminator, Opponent, recognised, unrecognised


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.golden
def test_golden(golden, golden_tiny):
    case = golden_case(golden, "doco/gan_losses")
    fill, half = case.inputs["discriminator_fill"], case.inputs["batch"]
    x, t = case.tensors["noisy_latents"], case.tensors["timesteps"][:half]
    network = Discriminator(*x.shape[1:3], generator())
    names = [f"model.{name.removeprefix('layers.')}" for name, _ in network.named_parameters()]
    assert names == case.outputs["discriminator_parameter_names"]
    for number, parameter in enumerate(network.parameters()):
        i = torch.arange(parameter.numel(), dtype=torch.float64).reshape(parameter.shape)
        value = fill["amp"] * torch.sin(0.7 * i + 0.3 * number + 0.1)
        normalises = parameter.ndim == 1 and names[number].endswith("weight")
        parameter.data.copy_(value + normalises)

    predicted = case.tensors["model_pred"].clone().requires_grad_()
    original = golden_tiny.denoised(x, t, case.tensors["anchor_pred"])
    trained = golden_tiny.denoised(x, t, predicted[:half])
    sums = [float(each.detach().double().abs().sum()) for each in (trained, original)]
    assert sums == pytest.approx(case.outputs["x0_model_abs_sum_x0_target_abs_sum"], rel=1e-6)

    loss = unrecognised(network(trained))
    prior = (predicted[half:] - case.tensors["prior_noise"]).square().mean()
    whole = loss + 0.1 * case.inputs["prior_loss_weight"] * prior
    (gradient,) = torch.autograd.grad(whole, predicted)
    real, fake = network(original), network(trained.detach())
    own = recognised(real, fake)

    tolerance = case.tolerance["losses (JSON)"]["tol"]
    for key, value in (("loss_adv", loss), ("prior_loss", prior), ("loss_G", whole), ("loss_D", own)):
        assert value.item() == pytest.approx(case.outputs[key], rel=tolerance), key
    for key, value in (("logits_gen", network(trained)), ("logits_real", real), ("logits_fake", fake)):
        expected = case.tensors[key]
        assert relative(value.detach().squeeze(1), expected) < case.tolerance["logits_*"]["tol"], key
    tolerance = case.tolerance["grad_*"]["tol"]
    assert relative(gradient[:half], case.tensors["grad_model_pred_loss_G"]) < tolerance

    # One activation of the last hidden layer is 6e-6 from the corner of its rectifier, within rounding: its
    # sign decides over 1 % of the first layer's gradient. So both signs are tried.
    errors = [
        [
            relative(
                each[:, : expected.shape[1]], expected
            )  # of the last layer, 16 input channels are stored
            for each, expected in gradients_beside(network, original, trained.detach(), nudge, case)
        ]
        for nudge in (0.0, 1e-5, -1e-5)
    ]
    assert max(min(errors, key=max)) < tolerance


def gradients_beside(network, original, trained, nudge: float, case):
    """The discriminator's gradients and the stored ones, with a last bias that is moved a little."""
    moved = network.layers[-3].bias.data
    moved += nudge
    loss = recognised(network(original), network(trained))
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    moved -= nudge
    for (name, _), gradient in zip(network.named_parameters(), gradients, strict=True):
        key = f"grad_D.model.{name.removeprefix('layers.')}"
        if key in case.tensors:
            yield gradient, case.tensors[key]


@pytest.mark.parametrize(
    ("channels", "side", "halvings", "patches"),
    [(4, 64, 4, 3), (4, 128, 4, 7), (4, 96, 4, 5), (4, 32, 4, 1), (16, 8, 2, 1), (4, 4, 1, 1), (4, 2, 0, 1)],
)
def test_suits_latents_of_any_size(channels, side, halvings, patches):
    network = Discriminator(channels, side, generator())
    strided = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)
    ]
    assert len(strided) == halvings
    assert network(torch.randn(2, channels, side, side)).shape == (2, 1, patches, patches)
    assert torch.isfinite(network(torch.randn(1, channels, side, side))).all()


def test_is_the_release_s_on_stable_diffusion():
    assert sum(p.numel() for p in Discriminator(4, 64, generator()).parameters()) == 2_767_553


def test_latents_of_a_single_pixel_are_refused():
    with pytest.raises(ValueError, match="side: latents must be at least 2 x 2, got 1 x 1"):
        Discriminator(4, 1, generator())


def test_begins_as_torch_does_and_by_its_own_seed():
    first, again, other = (
        nn.utils.parameters_to_vector(Discriminator(4, 16, generator(seed)).parameters())
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    reference, ours = nn.Conv2d(64, 128, 4), Discriminator(4, 16, generator()).layers[2]
    for own, theirs in zip(ours.parameters(), reference.parameters(), strict=True):
        assert float(own.detach().std()) == pytest.approx(float(theirs.detach().std()), rel=0.3)
        assert own.abs().max() <= (64 * 16) ** -0.5


def kinds(count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, and noise that is brighter on the left."""
    slope = torch.linspace(1, -1, 8).expand(16, 8, 8)
    return tuple(torch.randn(count, 16, 8, 8, generator=random) + by * slope for by in (0, 1))


def test_learns_to_tell_two_kinds_apart(context):
    random = generator()
    opponent = Opponent.begin(*kinds(1, random)[:1], 5e-4, torch.device("cpu"), context)
    first = opponent.learn(*kinds(8, random), tainted=False)
    for _ in range(60):
        last = opponent.learn(*kinds(8, random), tainted=False)
    original, trained = (opponent.network(each) for each in kinds(64, random))
    assert ((original < 0).float().mean() + (trained > 0).float().mean()) / 2 > 0.9
    assert last["discriminator"] < 0.5 * first["discriminator"]
    assert last["loss"] > first["loss"]


def test_a_tainted_step_follows_both_losses(context):
    original, trained = kinds(8, generator())
    found = []
    for tainted in (False, True):
        opponent = Opponent.begin(original, 1e-30, original.device, context)
        opponent.learn(original, trained, tainted)
        found.append([parameter.grad for parameter in opponent.network.parameters()])
    network = Opponent.begin(original, 1.0, original.device, context).network
    loss = unrecognised(network(trained))
    extra = torch.autograd.grad(loss, list(network.parameters()))
    for clean, both, other in zip(*found, extra, strict=True):
        assert torch.allclose(both, clean + other, atol=1e-6)
    assert relative(found[1][0], found[0][0]) > 0.1
