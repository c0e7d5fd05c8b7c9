"""What brings a concept back besides prompts: each way by itself, on the random model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoint import assert_untouched, state

from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.errors import ConfigError, UnlearnError
from unlearn.methods.method import Context, Meter
from unlearn.methods.training import loop as training
from unlearn.methods.training.loop import Optimizer
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.sampling import Sampler, Start, draw
from unlearn.models.weights.parameters import select
from unlearn.resurgence.quantisation import Quantisation, rounded
from unlearn.resurgence.relearning import Relearning
from unlearn.resurgence.resurgence import Subject
from unlearn.resurgence.sampling import OtherGuidance, OtherSamplers, StartImages
from unlearn.seeding import generator

SAMPLER = Sampler(scheduler="ddim", steps=4, guidance=3.0, resolution=32, batch_size=4)
PLAIN = PromptSet("plain", ("a church", "the church, a sketch"), (5, 6), ("",) * 2, ("church",) * 2)
CONCEPTS = ConceptSet(
    erase={
        "church": Concept(
            kind="object",
            phrases=["church"],
            anchor="house",
            retain=["cat", "dog"],
            prompts=None,
            detector="red",
            labels=["church"],
            templates=["{a}", "a photo of {a}", "a sketch of {a}"],
        )
    }
)


@pytest.fixture
def context(tiny, tmp_path) -> Context:
    return Context(
        seed=0, scratch=tmp_path, log=lambda _values, _step: None, progress=False, meter=Meter(tiny)
    )


def erasure_of(model, *patterns: str, guard: Guard | None = None) -> Erasure:
    """Some weights, moved a little."""
    random = generator(0)
    weights = {
        name: weight + 0.05 * torch.randn(weight.shape, generator=random)
        for name, weight in model.named_parameters()
        if any(pattern in name for pattern in patterns)
    }
    return Erasure(weights=weights, guard=guard)


def subject(model, *patterns: str, guard: Guard | None = None) -> Subject:
    return Subject(model, erasure_of(model, *(patterns or ("attn2",)), guard=guard), CONCEPTS, PLAIN, SAMPLER)


def relearning(**changes) -> Relearning:
    settings = {
        "prompts": 2,
        "data": "concept",
        "images": 3,
        "parameters": ["denoiser"],
        "rank": None,
        "steps": [1, 3],
        "batch_size": 2,
        "optimizer": Optimizer(lr=1e-3),
        "sampler": SAMPLER,
    }
    return Relearning(**{**settings, **changes})


class Shown:
    """Draws whatever it is asked to, and keeps it."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.images = subject, {}

    def __call__(self, place: int, sampler: Sampler | None = None, start: Start | None = None) -> None:
        drawn = draw(
            self.subject.model,
            PLAIN.prompts,
            PLAIN.seeds,
            sampler or SAMPLER,
            guard=self.subject.erasure.guard,
            start=start,
        )
        self.images[place] = torch.cat(list(drawn))


def visited(kind, chosen: Subject, context: Context) -> dict[int, torch.Tensor]:
    show = Shown(chosen)
    before = state(chosen.model)
    kind.visit(chosen, context, show)
    assert_untouched(chosen.model, before)
    assert sorted(show.images) == list(range(len(kind.places(SAMPLER))))
    return show.images


def as_erased(chosen: Subject) -> torch.Tensor:
    show = Shown(chosen)
    with chosen.model.erased(chosen.erasure):
        show(0)
    return show.images[0]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("data", ["concept", "neighbours", "unrelated"])
def test_every_place_is_another_model(tiny, context, data, rank):
    patterns = ["denoiser"] if rank is None else ["unet.*attn*.to_*.weight"]
    kind = relearning(data=data, rank=rank, parameters=patterns, optimizer=Optimizer(lr=1e-2))
    chosen = subject(tiny)
    first, last = visited(kind, chosen, context).values()
    start = as_erased(chosen)
    assert min((a - b).abs().mean() for a, b in ((first, start), (last, start), (last, first))) > 1e-4


def test_training_is_plain_fine_tuning_from_where_the_erasure_ended(tiny, context):
    """A place holds what a loop of its own gives, on the same images and noise."""
    kind, chosen = relearning(steps=[2], batch_size=3, optimizer=Optimizer(lr=1e-3)), subject(tiny)
    learned = {}

    def show(place: int) -> None:  # noqa: ARG001
        learned.update(state(tiny))

    kind.visit(chosen, context, show)
    sentences = kind.sentences(CONCEPTS, PLAIN, context)
    clean = load_file(context.scratch / "images.safetensors")["images"]
    with tiny.erased(chosen.erasure), select(tiny, ["denoiser"]) as selection:
        stepper = torch.optim.AdamW(selection.parameters.values(), lr=1e-3, weight_decay=0.0)
        for step in range(2):
            rows = shuffled(3, 3, step, context, "relearning")
            noised = Noised.draw(tiny, clean[rows], context.generator("relearning", "step", step))
            told = tiny.encode([sentences[row] for row in rows])
            error = tiny.predict(noised.latents, noised.timesteps, told) - noised.target
            stepper.zero_grad()
            error.square().mean().backward()
            stepper.step()
        for name, weight in selection.parameters.items():
            assert torch.allclose(weight, learned[name], atol=2e-5), name


@pytest.mark.parametrize("rank", [None, 2])
def test_a_tiny_learning_rate_leaves_the_erased_model_as_it_is(tiny, context, rank):
    patterns = ["denoiser"] if rank is None else ["unet.*attn*.to_*.weight"]
    kind = relearning(rank=rank, parameters=patterns, optimizer=Optimizer(lr=1e-30))
    chosen = subject(tiny)
    for images in visited(kind, chosen, context).values():
        assert torch.equal(images, as_erased(chosen))


def test_the_erased_text_encoder_is_what_tells_the_training(tiny, context, tmp_path):
    """With what an erasure did to the text encoder left out, it would learn other weights."""
    kind = relearning(optimizer=Optimizer(lr=1e-2), steps=[2])
    weights = {}

    def learned(chosen: Subject, folder: str) -> dict[str, torch.Tensor]:
        own = replace(context, scratch=tmp_path / folder)
        own.scratch.mkdir()

        def show(place: int) -> None:  # noqa: ARG001
            weights[folder] = state(tiny)

        kind.visit(chosen, own, show)
        return weights[folder]

    erased = learned(subject(tiny, "text_encoder.encoder"), "erased")
    original = learned(replace(subject(tiny), erasure=Erasure()), "original")
    name = "unet.conv_in.weight"
    assert not torch.equal(erased[name], original[name])
    assert (tmp_path / "erased/images.safetensors").read_bytes()[-999:] == (
        tmp_path / "original/images.safetensors"
    ).read_bytes()[-999:]  # both learn from the original's images


def test_the_text_encoder_is_trained_where_it_is_opened(tiny, context):
    trained = {}
    chosen = subject(tiny, "text_encoder.encoder")

    def show(place: int) -> None:  # noqa: ARG001
        trained.update(state(tiny))

    relearning(parameters=["text_encoder"], steps=[1]).visit(chosen, context, show)
    name = "text_encoder.encoder.layers.0.mlp.fc1.weight"
    assert not torch.equal(trained[name], chosen.erasure.weights[name])
    assert torch.equal(trained["unet.conv_in.weight"], state(tiny)["unet.conv_in.weight"])


@pytest.mark.parametrize("rank", [None, 2])
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tiny, context, tmp_path, monkeypatch, rank):
    patterns = ["denoiser"] if rank is None else ["unet.*attn*.to_*.weight"]
    kind, chosen = relearning(rank=rank, parameters=patterns, steps=[1, 2, 4]), subject(tiny)
    own = replace(context, scratch=tmp_path / "undisturbed")
    own.scratch.mkdir()
    undisturbed = visited(kind, chosen, own)
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)

    class Killed(Exception):
        pass

    show = Shown(chosen)

    def dying(place: int) -> None:
        show(place)
        if place == 1:
            raise Killed

    before = state(tiny)
    with pytest.raises(Killed):
        kind.visit(chosen, context, dying)
    assert_untouched(tiny, before)
    again = Shown(chosen)
    kind.visit(chosen, context, again)
    assert sorted(again.images) == [1, 2]  # the first place lies before the checkpoint
    for place, images in undisturbed.items():
        assert torch.equal({**show.images, **again.images}[place], images)


def test_no_sentence_of_the_training_is_a_prompt(context):
    found = relearning(images=4).sentences(CONCEPTS, PLAIN, context)
    assert set(found) == {"a photo of a church", "a sketch of a church"}
    assert len(found) == 4
    for data in ("neighbours", "unrelated"):
        texts = relearning(data=data, images=40).sentences(CONCEPTS, PLAIN, context)
        assert len(texts) == 40
        assert not [text for text in texts if "church" in text]
    assert {text.split()[-1] for text in relearning(data="neighbours").texts(CONCEPTS, PLAIN)} == {
        "cat",
        "dog",
    }


def test_nothing_to_train_on_is_said():
    texts = ("a church", "a photo of a church", "a sketch of a church")
    asked = PromptSet("plain", texts, (1, 2, 3), ("",) * 3, ("church",) * 3)
    (problem,) = relearning().check(SAMPLER, CONCEPTS, asked)
    assert problem.startswith("data: the concept has no sentences for 'concept'")
    assert relearning().check(SAMPLER, CONCEPTS, PLAIN) == []


class Half(Guard):
    """Halves the guidance scale."""

    def guide(self, step):
        return super().guide(replace(step, scale=step.scale / 2))


def test_a_guard_is_on_while_the_images_are_drawn(tiny, context):
    kind = OtherGuidance(prompts=2, scales=[1.5, 6.0])
    guarded = replace(subject(tiny), erasure=Erasure(guard=Half()))
    bare = replace(subject(tiny), erasure=Erasure())
    lowered = visited(kind, guarded, context)
    assert torch.allclose(lowered[1], as_erased(bare), atol=1e-5)
    trained = relearning(steps=[1], optimizer=Optimizer(lr=1e-30))
    assert torch.equal(visited(trained, guarded, context)[0], as_erased(guarded))
    assert not torch.allclose(as_erased(guarded), as_erased(bare), atol=1e-3)


def test_other_samplers_draw_from_the_erased_model(tiny, context):
    kind = OtherSamplers(prompts=2, schedulers=["ddim", "euler"], steps=[4, 2])
    assert [place.label for place in kind.places(SAMPLER)] == ["euler, 4", "ddim, 2"]
    chosen = subject(tiny)
    found = visited(kind, chosen, context)
    with tiny.erased(chosen.erasure):
        expected = torch.cat(list(draw(tiny, PLAIN.prompts, PLAIN.seeds, replace(SAMPLER, steps=2))))
    assert torch.equal(found[1], expected)
    assert not torch.allclose(found[0], as_erased(chosen), atol=1e-3)


def test_the_models_own_settings_are_no_place(tiny, context):
    kind = OtherGuidance(prompts=2, scales=[3.0, 7.0])
    assert [place.at for place in kind.places(SAMPLER)] == [7.0]
    assert kind.origin(SAMPLER).at == 3.0
    assert len(visited(kind, subject(tiny), context)) == 1


def test_images_to_start_from_are_the_originals_and_stay_the_more_the_fewer_steps(tiny, context):
    kind = StartImages(prompts=2, strengths=[1.0, 0.5, 0.25])
    chosen = subject(tiny)
    found = visited(kind, chosen, context)
    seeds = [context.derive_seed("start", seed) for seed in PLAIN.seeds]
    original = torch.cat(list(draw(tiny, PLAIN.prompts, seeds, SAMPLER)))
    away = [(found[place] - original).abs().mean() for place in range(3)]
    assert away[0] > away[1] > away[2] > 0
    assert not set(seeds) & set(PLAIN.seeds)


def test_weights_are_rounded_to_the_nearest_of_each_row():
    weight = torch.randn(6, 5, 3, 3, generator=generator(0)) * torch.logspace(-3, 2, 6)[:, None, None, None]
    found = rounded(weight, "int8")
    for row, own in zip(weight, found, strict=True):
        step = row.abs().max() / 127
        assert len(own.unique()) <= 45
        assert torch.allclose(own / step, (own / step).round(), atol=1e-3)
        assert (own - row).abs().max() <= step / 2 * 1.001
    assert torch.equal(rounded(weight[:, 0, 0, 0], "int8"), weight[:, 0, 0, 0])
    assert torch.equal(rounded(torch.zeros(2, 3), "int4"), torch.zeros(2, 3))
    assert torch.equal(rounded(weight, "bfloat16"), weight.bfloat16().float())
    error = [(rounded(weight, name) - weight).norm() for name in ("float16", "bfloat16", "int8", "int4")]
    assert 0 < error[0] < error[1] < error[3]
    assert error[2] < error[3]


def test_what_the_erasure_left_is_rounded(tiny, context):
    chosen = subject(tiny)
    seen = []

    def show(place: int) -> None:  # noqa: ARG001
        seen.append(state(tiny))

    kind = Quantisation(prompts=2, parameters=["cross_attention"], formats=["int8", "bfloat16"])
    kind.visit(chosen, context, show)
    for found, name in zip(seen, kind.formats, strict=True):
        for key, weight in found.items():
            if "attn2" in key:
                assert torch.equal(weight, rounded(chosen.erasure.weights[key], name))
            else:
                assert torch.equal(weight, state(tiny)[key])
    images = visited(replace(kind, formats=["int4", "float16"]), chosen, context)
    away = [(images[place] - as_erased(chosen)).abs().mean() for place in range(2)]
    assert away[0] > away[1] > 0


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: relearning(prompts=0), "prompts: must be at least 1, got 0"),
        (lambda: relearning(data="concepts"), "data: Unknown data 'concepts'. Did you mean 'concept'"),
        (lambda: relearning(images=0), "images: must be at least 1, got 0"),
        (lambda: relearning(rank=0), "rank: must be at least 1, or null for none, got 0"),
        (lambda: relearning(steps=[]), "steps: needs at least one, rising"),
        (lambda: relearning(steps=[0, 5]), "steps: each must be at least 1"),
        (lambda: relearning(steps=[5, 2]), "steps: needs at least one, rising"),
        (
            lambda: Quantisation(prompts=1, parameters=["denoiser"], formats=["int9"]),
            "formats: Unknown format 'int9'",
        ),
        (lambda: Quantisation(prompts=1, parameters=["denoiser"], formats=[]), "formats: needs at least one"),
        (
            lambda: OtherSamplers(prompts=1, schedulers=["dim"], steps=[]),
            "schedulers: Unknown scheduler 'dim'",
        ),
        (lambda: OtherSamplers(prompts=1, schedulers=[], steps=[0]), "steps: each must be at least 1"),
        (lambda: OtherGuidance(prompts=1, scales=[-1.0]), "scales: each must be a number from 0 up"),
        (lambda: OtherGuidance(prompts=1, scales=[2.0, 2.0]), "scales: needs at least one, and each once"),
        (lambda: StartImages(prompts=1, strengths=[0.0]), "strengths: each must be above 0 and at most 1"),
        (lambda: StartImages(prompts=1, strengths=[0.5, 0.8]), "strengths: needs at least one, falling"),
    ],
)
def test_refuses_settings_that_mean_nothing(build, said):
    with pytest.raises(ValueError, match=said):
        build()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            OtherSamplers(prompts=1, schedulers=["ddim"], steps=[4]),
            "schedulers: need one besides the model's",
        ),
        (OtherGuidance(prompts=1, scales=[3.0]), "scales: needs one besides the model's own, 3"),
        (
            StartImages(prompts=1, strengths=[0.5, 0.2]),
            "strengths: must leave at least one of 4 steps, got 0.2",
        ),
    ],
)
def test_says_what_does_not_fit_the_model(kind, said):
    (problem,) = kind.check(SAMPLER, CONCEPTS, PLAIN)
    assert problem.startswith(said)


def test_a_training_that_diverges_is_said(tiny, context):
    kind = relearning(optimizer=Optimizer(algorithm="sgd", lr=1e30), steps=[9])
    with pytest.raises(UnlearnError, match=r"resurgence: the loss is .* of 9 on images of 'concept'. Lower"):
        kind.visit(subject(tiny), context, Shown(subject(tiny)))


def test_parameters_that_are_none_are_said(tiny, context):
    with pytest.raises(ConfigError, match=r"parameters: no parameter of this model matches 'unet\.atn"):
        relearning(parameters=["unet.atn*"]).visit(subject(tiny), context, Shown(subject(tiny)))
