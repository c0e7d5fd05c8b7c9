"""The loop of gradient steps, on a model of one parameter."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from unlearn.errors import ArtifactError, IncompatibleError, UnlearnError
from unlearn.methods.method import Meter
from unlearn.methods.training import loop as training
from unlearn.methods.training.loop import Composed, Optimizer, fit
from unlearn.models.weights.parameters import Selection


def selection(dtype: torch.dtype = torch.float32) -> Selection:
    return Selection({"w": nn.Parameter(torch.tensor([3.0, -2.0], dtype=dtype))})


def distance(chosen: Selection):
    return lambda step: (chosen.parameters["w"] - step).square().sum()


def test_a_step_is_a_step_of_adam(context):
    chosen = selection()
    reference = nn.Parameter(chosen.parameters["w"].detach().clone())
    adam = torch.optim.Adam([reference], lr=0.1)
    for step in range(5):
        adam.zero_grad()
        (reference - step).square().sum().backward()
        adam.step()
    history = fit(chosen, distance(chosen), 5, Optimizer(lr=0.1), context)
    assert torch.equal(chosen.parameters["w"], reference)
    assert [h["step"] for h in history] == [0, 1, 2, 3, 4]
    assert history[0]["loss"] == 13.0


def test_warm_up_and_clipping(context):
    chosen = selection()
    history = fit(chosen, distance(chosen), 4, Optimizer(lr=0.4, warmup=4, clip_norm=1e-3), context)
    assert [h["lr"] for h in history] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert chosen.parameters["w"].grad.norm() <= 1e-3


def test_accumulated_gradients_are_the_sum_of_all_so_far(context):
    chosen = selection()
    reference = nn.Parameter(chosen.parameters["w"].detach().clone())
    adam = torch.optim.Adam([reference], lr=0.1)
    for step in range(5):
        (reference - step).square().sum().backward()
        adam.step()
    fit(chosen, distance(chosen), 5, Optimizer(lr=0.1, accumulate=True), context)
    assert torch.equal(chosen.parameters["w"], reference)
    assert torch.equal(chosen.parameters["w"].grad, reference.grad)


@pytest.mark.parametrize(("accumulate", "times"), [(False, 1), (True, 2)])
def test_the_same_step_twice_gives_the_same_gradient_or_its_double(accumulate, times, context):
    chosen, gradients = selection(), []
    still = Optimizer(lr=1e-30, accumulate=accumulate)

    def log(_values, _step):
        gradients.append(chosen.parameters["w"].grad.clone())

    fit(chosen, lambda _: distance(chosen)(1), 2, still, replace(context, log=log))
    assert torch.equal(gradients[1], times * gradients[0])


def test_a_resumed_training_goes_on_with_the_sum(context, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    optimizer = Optimizer(lr=0.1, accumulate=True)
    straight, resumed = selection(), selection()
    fit(resumed, distance(resumed), 3, optimizer, context)
    resumed = selection()
    fit(resumed, distance(resumed), 6, optimizer, context)
    other = tmp_path / "other"
    other.mkdir()
    fit(straight, distance(straight), 6, optimizer, replace(context, scratch=other))
    assert torch.equal(resumed.parameters["w"], straight.parameters["w"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(bad, context, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    chosen = selection()

    def loss(step: int):
        return chosen.parameters["w"].sum() * (bad if step == 3 else 1.0)

    with pytest.raises(UnlearnError, match=f"the loss is -?{bad} at step 3 of 9. Lower method.optimizer.lr"):
        fit(chosen, loss, 9, Optimizer(lr=0.1), context)
    kept = torch.load(context.scratch / "checkpoint.pt", weights_only=True)
    assert len(kept["history"]) == 3
    assert torch.equal(kept["parameters"]["w"], chosen.parameters["w"])


def test_resumes_at_its_checkpoint(context, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    chosen, seen = selection(), []
    fit(chosen, distance(chosen), 4, Optimizer(lr=0.1), context)
    fresh = selection()

    def loss(step: int):
        seen.append(step)
        return distance(fresh)(step)

    fit(fresh, loss, 6, Optimizer(lr=0.1), context)
    assert seen == [4, 5]


def test_a_resumed_training_counts_what_its_first_part_cost(context, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    model = SimpleNamespace(forwards=0)

    def counted(chosen):
        def loss(step: int):
            model.forwards += 10
            return distance(chosen)(step)

        return loss

    chosen = selection()
    fit(chosen, counted(chosen), 4, Optimizer(lr=0.1), replace(context, meter=Meter(model)))
    model.forwards += 7  # work after the last checkpoint, which the second part does again
    second, fresh = replace(context, meter=Meter(model)), selection()
    fit(fresh, counted(fresh), 6, Optimizer(lr=0.1), second)
    assert second.meter.read()["forwards"] == 60


def test_a_meter_that_is_further_does_not_catch_up():
    model = SimpleNamespace(forwards=0)
    meter = Meter(model)
    meter.catch_up({"seconds": 1e3, "forwards": 5})
    meter.catch_up({"seconds": 10, "forwards": 2})
    model.forwards += 1
    assert meter.read()["forwards"] == 6
    assert 1e3 <= meter.read()["seconds"] < 1e3 + 60


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"nonsense"])
def test_a_damaged_checkpoint_is_named(content, context):
    (context.scratch / "checkpoint.pt").write_bytes(content)
    chosen = selection()
    with pytest.raises(
        ArtifactError, match=r"cannot read the checkpoint .*checkpoint.pt.* Delete .* and run again"
    ):
        fit(chosen, distance(chosen), 1, Optimizer(lr=0.1), context)


def test_a_checkpoint_of_other_parameters_is_refused(context, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    chosen, other = selection(), Selection({"v": nn.Parameter(torch.ones(2))})
    fit(chosen, distance(chosen), 1, Optimizer(lr=0.1), context)
    with pytest.raises(ArtifactError, match="belongs to other parameters"):
        fit(other, lambda _: other.parameters["v"].sum(), 1, Optimizer(lr=0.1), context)


def test_half_precision_is_refused(context):
    chosen = selection(torch.bfloat16)
    with pytest.raises(IncompatibleError, match="what is trained must be float32, got bfloat16"):
        fit(chosen, distance(chosen), 1, Optimizer(lr=0.1), context)


def test_progress_goes_to_stderr(context, capsys):
    chosen = selection()
    fit(
        chosen,
        distance(chosen),
        3,
        Optimizer(lr=0.1),
        replace(context, progress=True),
    )
    captured = capsys.readouterr()
    assert not captured.out
    assert "3/3" in captured.err
    assert "loss=" in captured.err


def test_plain_gradient_descent_is_a_step_along_the_gradient(context):
    chosen = selection()
    fit(chosen, distance(chosen), 1, Optimizer(algorithm="sgd", lr=0.1), context)
    assert torch.allclose(chosen.parameters["w"], torch.tensor([3.0, -2.0]) * (1 - 0.1 * 2))


def test_composed_gradients_are_taken_as_they_are(context):
    chosen = Selection({"w": nn.Parameter(torch.ones(2)), "still": nn.Parameter(torch.ones(2))})

    def composed(step: int) -> Composed:
        return Composed([torch.tensor([1.0, -1.0]), None], {"loss": 2.0, "kept": float(step)})

    history = fit(chosen, composed, 2, Optimizer(algorithm="sgd", lr=0.25), context)
    assert chosen.parameters["w"].tolist() == [0.5, 1.5]
    assert chosen.parameters["still"].tolist() == [1, 1]
    assert history[1] == {"step": 1, "loss": 2.0, "kept": 1.0, "lr": 0.25}


@pytest.mark.parametrize("algorithm", ["sgd", "adam"])
def test_what_the_step_does_to_watched_losses_is_logged(algorithm, context):
    chosen, along = selection(), torch.tensor([0.5, -2.0])
    before = chosen.parameters["w"].detach().clone()

    def composed(_step: int) -> Composed:
        return Composed([torch.tensor([3.0, 1e-3])], {"loss": 1.0}, {"kept": [along]})

    history = fit(chosen, composed, 1, Optimizer(algorithm=algorithm, lr=1e-3), context)
    change = float(along @ (chosen.parameters["w"].detach() - before))
    assert history[0]["kept_change"] == pytest.approx(change, rel=1e-3)
    assert (change > 0) == (algorithm == "adam")  # which takes both entries for equals


def test_the_gradients_of_a_step_are_gone_when_the_next_begins(context):
    chosen = selection()

    def loss(step: int):
        assert chosen.parameters["w"].grad is None
        return distance(chosen)(step)

    fit(chosen, loss, 3, Optimizer(lr=0.1), context)


def test_a_composed_loss_that_is_not_finite_stops(context):
    chosen = selection()
    with pytest.raises(UnlearnError, match="the loss is nan at step 0"):
        fit(chosen, lambda _: Composed([None], {"loss": math.nan}), 1, Optimizer(lr=0.1), context)


def test_companions_are_resumed_with_the_training(context, tmp_path, monkeypatch):
    """A second player that the loss itself trains."""

    def run(scratch, stop: int | None = None):
        chosen = selection()
        player = nn.Linear(2, 1)
        nn.init.ones_(player.weight)
        nn.init.zeros_(player.bias)
        own = torch.optim.Adam(player.parameters(), lr=0.1)

        def loss(step: int):
            if step == stop:
                raise KeyboardInterrupt
            theirs = player(chosen.parameters["w"].detach()).sum().square() + step
            for parameter, gradient in zip(
                player.parameters(), torch.autograd.grad(theirs, list(player.parameters())), strict=True
            ):
                parameter.grad = gradient
            own.step()
            return player(chosen.parameters["w"]).square().sum()

        companions = {"player": player, "own": own}
        fit(chosen, loss, 6, Optimizer(lr=0.1), replace(context, scratch=scratch), companions)
        return chosen.parameters["w"].detach()

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    undisturbed = run(first)
    with pytest.raises(KeyboardInterrupt):
        run(second, stop=3)
    assert torch.equal(run(second), undisturbed)


def test_an_unknown_algorithm_is_named():
    with pytest.raises(ValueError, match=r"algorithm: Unknown algorithm 'adm'.*adam"):
        Optimizer(algorithm="adm", lr=0.1)
