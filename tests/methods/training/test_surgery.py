"""What becomes of conflicting gradients: against the authors' code, and by what it is to do."""

from __future__ import annotations

import pytest
import torch
from golden_cases import golden_case, relative

from unlearn.methods.training.surgery import Conflict, clipped, protected, restricted

SHAPES = ((5, 4), (7,), (3, 2, 2, 2))


def randn(seed: int, shapes=SHAPES) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]


def inner(a, b) -> float:
    return float(sum((x * y).sum() for x, y in zip(a, b, strict=True)))


def opposed(seed: int = 0, by: float = 2.0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Two gradients whose tensors all work against each other."""
    h = randn(seed)
    return [noise - by * own for noise, own in zip(randn(seed + 1), h, strict=True)], h


@pytest.mark.golden
@pytest.mark.parametrize("name", ["gradient_surgery", "gradient_surgery_smallnorm"])
def test_doco_golden(name, golden):
    case = golden_case(golden, f"doco/{name}")
    names = list(case.inputs["cosine_a_b"])
    limit, share = case.inputs["max_grad_norm"], case.inputs["lambda_"]
    g, h = (clipped([case.tensors[f"{part}.{n}"] for n in names], limit) for part in ("grad_a", "grad_b"))
    adjusted, against = protected(g, h, share, "released")
    tolerance = case.tolerance["all outputs"]["tol"]
    for n, own in zip(names, adjusted, strict=True):
        assert relative(own, case.tensors[f"adjusted.{n}"]) < tolerance, n
        assert relative(-case.inputs["sgd_lr"] * own, case.tensors[f"param_after.{n}"]) < tolerance, n
    cosines = case.inputs["cosine_a_b"].values()
    assert float(against) == pytest.approx(sum(cosine < 0 for cosine in cosines) / len(names))
    exact, _ = protected(g, h, share, "exact")
    different = [relative(own, case.tensors[f"adjusted.{n}"]) for n, own in zip(names, exact, strict=True)]
    assert max(different) > 10 * tolerance or not (against and share)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["sd_conflict", "sd_no_conflict", "cifar_rg", "cifar_rgd"])
def test_rg_golden(name, golden):
    case = golden_case(golden, f"rg/{name}")
    batches, count = (
        case.inputs["n_retain_batches"],
        sum(key.startswith("forget_grad.") for key in case.tensors),
    )
    g = [-case.tensors[f"forget_grad.{i}"] for i in range(count)]
    h = [
        torch.stack([case.tensors[f"retain_grad.{j}.{i}"] for j in range(batches)]).mean(dim=0)
        for i in range(count)
    ]
    conflict = Conflict.between(g, h)
    assert (conflict.product < 0) == case.inputs["conflict"]
    combined = restricted(g, h, case.inputs["coefficient"], conflict)
    ascent = restricted(g, h, 0.0, conflict)
    both = restricted(g, h, 1.0, conflict)
    tolerance = case.tolerance["all outputs"]["tol"]
    for i in range(count):
        assert relative(combined[i], case.tensors[f"combined.{i}"]) < tolerance
        assert relative(ascent[i], case.tensors[f"updated_ascent.{i}"]) < tolerance
        assert relative(both[i] - ascent[i], case.tensors[f"updated_descent.{i}"]) < tolerance


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_protection_is_the_projection_of_each_tensor(share):
    h = randn(0)
    g = [noise + sign * own for noise, sign, own in zip(randn(3), (2, -2, -2), h, strict=True)]
    adjusted, against = protected(g, h, share, "exact")
    for own, before, other in zip(adjusted, g, h, strict=True):
        product = (before * other).sum()
        if product >= 0:
            assert torch.equal(own, before)
        else:
            assert torch.allclose(own, before - share * product / other.square().sum() * other)
            assert float((own * other).sum()) == pytest.approx(float((1 - share) * product), abs=1e-9)
    assert float(against) == pytest.approx(2 / 3)


def test_protected_steps_do_not_work_against_what_is_retained():
    g, h = opposed()
    adjusted, against = protected(g, h, 1.0, "exact")
    for own, other in zip(adjusted, h, strict=True):
        assert (own * other).sum() >= -1e-12 * other.square().sum()
    assert float(against) == 1.0
    again, _ = protected(adjusted, h, 1.0, "exact")
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(again, adjusted, strict=True))


@pytest.mark.parametrize(("rule", "homogeneous"), [("exact", True), ("released", False)])
def test_protection_does_not_depend_on_how_long_the_gradient_is(rule, homogeneous):
    """The release's does: the shorter the gradient, the more of the step follows the other."""
    g, h = opposed()
    adjusted, _ = protected(g, h, 1.0, rule)
    shorter, _ = protected([1e-3 * each for each in g], h, 1.0, rule)
    same = [torch.allclose(a, 1e-3 * b, rtol=1e-9) for a, b in zip(shorter, adjusted, strict=True)]
    assert all(same) if homogeneous else not any(same)
    if not homogeneous:
        assert all(
            (a * b).sum() > 10 * abs((1e-3 * c * b).sum()) for a, b, c in zip(shorter, h, g, strict=True)
        )


@pytest.mark.parametrize("rule", ["exact", "released"])
def test_nothing_is_taken_out_for_nothing(rule):
    g, h = opposed()
    alone, _ = protected(g, h, 0.0, rule)
    beside_nothing, against = protected(g, [torch.zeros_like(each) for each in h], 1.0, rule)
    assert all(torch.equal(a, b) for a, b in zip(alone, g, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(beside_nothing, g, strict=True))
    assert float(against) == 0.0


def test_clipping_is_torch_s():
    g = randn(0)
    parameters = [torch.nn.Parameter(torch.zeros_like(each)) for each in g]
    for limit in (0.5, 1e3):
        for parameter, each in zip(parameters, g, strict=True):
            parameter.grad = each.clone()
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        ours = clipped(g, limit)
        assert all(torch.allclose(a, p.grad, rtol=1e-12) for a, p in zip(ours, parameters, strict=True))


@pytest.mark.parametrize("scale", [0.5, 1.6])
def test_restriction_is_that_of_two_projected_vectors(scale):
    g, h = opposed(by=0.5)
    u, r = (torch.cat([each.flatten() for each in part]) for part in (g, h))
    assert u @ r < 0
    expected = u - (u @ r) / (r @ r) * r + scale * (r - (u @ r) / (u @ u) * u)
    found = restricted(g, h, scale, Conflict.between(g, h))
    assert torch.allclose(torch.cat([each.flatten() for each in found]), expected, rtol=1e-12)


@pytest.mark.parametrize("by", [0.3, 2.0, 50.0])
def test_restricted_directions_work_against_neither(by):
    g, h = opposed(by=by)
    conflict = Conflict.between(g, h)
    sine = 1 - conflict.cosine**2
    found = restricted(g, h, 1.6, conflict)
    assert inner(found, g) == pytest.approx(inner(g, g) * sine, rel=1e-6)
    assert inner(found, h) == pytest.approx(1.6 * inner(h, h) * sine, rel=1e-6)
    assert conflict.cosine == pytest.approx(inner(g, h) / (inner(g, g) * inner(h, h)) ** 0.5)


def test_without_a_conflict_it_is_the_sum():
    g, h = opposed(by=-1.0)
    expected = [a + 1.6 * b for a, b in zip(g, h, strict=True)]
    for conflict in (Conflict.between(g, h), None):
        found = restricted(g, h, 1.6, conflict)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_gradient_of_0_conflicts_with_nothing():
    h = randn(0)
    nothing = [torch.zeros_like(each) for each in h]
    for g, other in ((nothing, h), (h, nothing)):
        conflict = Conflict.between(g, other)
        found = restricted(g, other, 1.6, conflict)
        assert conflict.cosine == 0
        assert all(torch.equal(a, b + 1.6 * c) for a, b, c in zip(found, g, other, strict=True))
