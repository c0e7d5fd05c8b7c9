"""The denoising loop against diffusers' pipeline, and what it adds to it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_checkpoint import tiny_settings, write_tiny
from torch import Generator

from unlearn.errors import ConfigError
from unlearn.models.guards import Guard
from unlearn.models.sampling import SCHEDULERS, Sampler, Start, draw, initial_noise, sample

PROMPTS = ["a photo of a cat", "", "a church beside a house"]


def sampler(**changes) -> Sampler:
    values = {"scheduler": "ddim", "steps": 4, "guidance": 3.0, "resolution": 32, "batch_size": 4}
    return Sampler(**(values | changes))


def pipeline(folder: Path):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def pair(request, tmp_path_factory, tiny, tiny_folder):
    """A model of ours and diffusers' pipeline over the same folder."""
    if request.param == "epsilon":
        return tiny, pipeline(tiny_folder)
    folder = write_tiny(tmp_path_factory.mktemp("tiny") / "v", prediction="v_prediction")
    model = tiny_settings(folder).load("cpu")
    assert model.prediction == "v_prediction"
    return model, pipeline(folder)


def reference(pipe, scheduler: str, prompts: list[str], seeds: list[int], output: str, **settings):
    import diffusers

    pipe.scheduler = getattr(diffusers, SCHEDULERS[scheduler]).from_config(pipe.scheduler.config)
    generators = [Generator().manual_seed(seed) for seed in seeds]
    return pipe(prompts, generator=generators, output_type=output, **settings).images


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS], ids=["single", "batched"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_equals_the_diffusers_pipeline_bit_for_bit(pair, scheduler, guidance, prompts):
    model, pipe = pair
    seeds = list(range(7, 7 + len(prompts)))
    settings = {"num_inference_steps": 5, "guidance_scale": guidance, "height": 32, "width": 32}
    expected = reference(pipe, scheduler, prompts, seeds, "pt", **settings)

    ours = sampler(scheduler=scheduler, steps=5, guidance=guidance)
    empty = model.encode([""] * len(prompts))
    latents, t = sample(model, model.encode(prompts), empty, seeds, ours)
    assert torch.equal(model.decode(latents), expected)
    assert t.shape == ()
    assert t == 0


@pytest.mark.parametrize("strength", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_a_start_from_images_equals_the_diffusers_pipeline_bit_for_bit(pair, scheduler, strength):
    from diffusers import StableDiffusionImg2ImgPipeline

    model, text_to_image = pair
    parts = {key: part for key, part in text_to_image.components.items() if key != "requires_safety_checker"}
    pipe = StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    latents = torch.randn(3, 4, 8, 8, generator=Generator().manual_seed(5))
    settings = {"image": latents, "strength": strength, "num_inference_steps": 6, "guidance_scale": 4.0}
    expected = reference(pipe, scheduler, PROMPTS, [7, 8, 9], "pt", **settings)
    ours = sampler(scheduler=scheduler, steps=6, guidance=4.0, batch_size=2)
    assert torch.equal(
        model.decode(
            sample(
                model,
                model.encode(PROMPTS),
                model.encode([""] * 3),
                [7, 8, 9],
                ours,
                start=Start(latents, strength),
            )[0]
        ),
        expected,
    )
    drawn = torch.cat(list(draw(model, PROMPTS, [7, 8, 9], ours, start=Start(latents, strength))))
    assert torch.allclose(drawn, expected, atol=1e-4)


def test_a_start_needs_a_step(tiny):
    start = Start(torch.zeros(1, 4, 8, 8), 0.2)
    with pytest.raises(ValueError, match=r"strength: must leave at least one of 4 steps, got 0\.2"):
        list(draw(tiny, ["a cat"], [0], sampler(steps=4), start=start))


@pytest.mark.golden
@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_equals_the_diffusers_pipeline_on_the_golden_checkpoint(golden, scheduler):
    model, pipe = tiny_settings(golden / "tiny-sd").load("cpu"), pipeline(golden / "tiny-sd")
    settings = {"num_inference_steps": 5, "guidance_scale": 7.5}
    expected = reference(pipe, scheduler, PROMPTS, [1, 2, 3], "pt", **settings)
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    ours = sampler(scheduler=scheduler, steps=5, guidance=7.5, resolution=size)
    latents, _ = sample(model, model.encode(PROMPTS), model.encode([""] * 3), [1, 2, 3], ours)
    assert torch.equal(model.decode(latents), expected)


def test_an_image_depends_on_its_prompt_and_seed_not_on_its_batch(tiny):
    prompts, seeds = ["a cat", "a dog", "a cat", "a church", "a cat"], [3, 4, 5, 6, 3]
    together = torch.cat(list(draw(tiny, prompts, seeds, sampler(batch_size=4))))
    alone = torch.cat(list(draw(tiny, prompts, seeds, sampler(batch_size=1))))
    assert together.shape == (5, 3, 32, 32)
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(together[0], together[4], atol=1e-4)
    assert not torch.allclose(together[0], together[2], atol=1e-2)
    assert together.min() >= 0
    assert together.max() <= 1


def test_draw_encodes_each_prompt_once_and_reports_progress(tiny, monkeypatch):
    encoded, done = [], []
    encode = type(tiny).encode
    monkeypatch.setattr(
        type(tiny), "encode", lambda self, prompts: encoded.extend(prompts) or encode(self, prompts)
    )
    images = list(
        draw(tiny, ["a cat"] * 3 + ["a dog"] * 2, range(5), sampler(batch_size=2), progress=done.append)
    )
    assert sorted(encoded) == ["", "a cat", "a dog"]
    assert [len(batch) for batch in images] == done == [2, 2, 1]


def test_both_halves_are_one_forward_and_guidance_of_one_skips_a_half(tiny, monkeypatch):
    sizes = []
    predict = tiny.predict

    def counted(latents, timesteps, conditioning):
        sizes.append(len(latents))
        return predict(latents, timesteps, conditioning)

    monkeypatch.setitem(vars(tiny), "predict", counted)  # and not of its class, which an instance may hide
    empty = tiny.encode([""])
    before = tiny.forwards
    sample(tiny, tiny.encode(["a cat"]), empty, [0, 1, 2], sampler(guidance=3.0))
    sample(tiny, tiny.encode(["a cat"]), empty, [0, 1, 2], sampler(guidance=1.0))
    assert sizes == [6] * 4 + [3] * 4
    assert tiny.forwards - before == sum(sizes)


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
def test_until_stops_at_the_noise_level_of_its_timestep(tiny, scheduler):
    cat, empty = tiny.encode(["a cat"]), tiny.encode([""])
    settings = sampler(scheduler=scheduler, steps=8)
    latents, t = sample(tiny, cat, empty, range(256), settings, until=0)
    # At the first timestep nothing but noise is there, with unit variance as the network was trained.
    assert latents.std().item() == pytest.approx(1, abs=0.03)
    assert t == tiny.scheduler(scheduler, 8).timesteps[0]
    assert sample(tiny, cat, empty, [0], settings, until=3)[1] == tiny.scheduler(scheduler, 8).timesteps[3]
    whole, end = sample(tiny, cat, empty, [0], settings, until=99)
    assert end == 0
    assert torch.equal(whole, sample(tiny, cat, empty, [0], settings)[0])


def test_until_gives_the_latents_that_the_whole_trajectory_passes(tiny):
    seen = []

    class Watch(Guard):
        def guide(self, step):
            seen.append((step.timestep, step.latents))
            return super().guide(step)

    cat, empty = tiny.encode(["a cat"]), tiny.encode([""])
    for scheduler in SCHEDULERS:
        seen.clear()
        sample(tiny, cat, empty, [5], sampler(scheduler=scheduler), guard=Watch())
        latents, t = sample(tiny, cat, empty, [5], sampler(scheduler=scheduler), until=2)
        assert torch.equal(latents, seen[2][1])
        assert t == seen[2][0]


def test_results_can_be_trained_on(tiny):
    latents, t = sample(tiny, tiny.encode(["a cat"]), tiny.encode([""]), [0], sampler(), until=2)
    assert not latents.requires_grad
    embeddings = tiny.embed(tiny.tokenize(["a cat"])).requires_grad_()
    tiny.predict(latents, t, tiny.encode_embeddings(embeddings)).square().sum().backward()
    assert embeddings.grad.abs().sum() > 0


def test_a_generator_goes_on_from_where_it_was(tiny):
    generator = Generator().manual_seed(3)
    first, second = initial_noise(tiny, [generator, generator], 32)
    assert torch.equal(first, initial_noise(tiny, [3], 32)[0])
    assert not torch.equal(first, second)


def test_a_guards_hooks_are_called(tiny):
    calls = []

    class Everything(Guard):
        def prompts(self, prompts, negative):
            return [f"{prompt}, nude" for prompt in prompts], ["a dog"] * len(negative)

        def prepared(self, model, prompts, encoded):
            calls.append(("prepared", model is tiny, tuple(prompts), len(encoded)))
            return self

        def extra_prompts(self):
            return ["violence", "nudity"]

        def branches(self, index, prompts, parts):
            calls.append(("branches", index, tuple(prompts), len(parts)))
            return parts if index == 0 else parts[:3]

        def guide(self, step):
            calls.append(("guide", step.index, step.total, step.scale, len(step.extra)))
            return step.conditional + 0 * step.extra[0]

        def screen(self, images):
            return torch.zeros_like(images)

    before = tiny.forwards
    prompts = ["a cat", "a church", "a cat"]
    batches = list(draw(tiny, prompts, [0, 1, 2], sampler(steps=2, batch_size=2), guard=Everything()))
    assert all(images.abs().sum() == 0 for images in batches)
    assert calls[0] == ("prepared", True, ("a cat, nude", "a church, nude"), 2)
    assert calls[1:5] == [
        ("branches", 0, ("a cat, nude", "a church, nude"), 4),
        ("guide", 0, 2, 3.0, 2),
        ("branches", 1, ("a cat, nude", "a church, nude"), 4),
        ("guide", 1, 2, 3.0, 1),
    ]
    assert calls[5] == ("branches", 0, ("a cat, nude",), 4)
    assert tiny.forwards - before == 3 * (4 + 3)


def test_a_guards_branches_are_what_is_predicted(tiny):
    class Swapped(Guard):
        def branches(self, index, prompts, parts):  # noqa: ARG002
            return [parts[1], parts[0]]

    swapped = torch.cat(list(draw(tiny, PROMPTS[:1], [1], sampler(guidance=0.0), guard=Swapped())))
    plain = torch.cat(list(draw(tiny, PROMPTS[:1], [1], sampler(guidance=1.0))))
    assert torch.allclose(swapped, plain, atol=1e-4)


def test_differences_of_noise_are_differences_of_predictions(pair):
    model, _ = pair
    latents, t = torch.randn(2, 4, 8, 8, generator=Generator().manual_seed(0)), torch.tensor([100, 900])
    noise = torch.randn(2, 4, 8, 8, generator=Generator().manual_seed(1))

    def implied(prediction):
        clean = model.denoised(latents, t, prediction)
        alpha, sigma = (
            x.reshape(-1, 1, 1, 1) for x in (model.alphas_cumprod[t], 1 - model.alphas_cumprod[t])
        )
        return (latents - alpha.sqrt() * clean) / sigma.sqrt()

    difference = implied(noise) - implied(torch.zeros_like(noise))
    expected = model.noise_scale(t).reshape(-1, 1, 1, 1) * noise
    assert torch.allclose(difference, expected, atol=1e-3)
    assert torch.allclose(difference, noise, atol=1e-3) == (model.prediction == "epsilon")


def test_extra_prompts_do_not_change_what_is_not_guided_by_them(tiny):
    class Idle(Guard):
        def extra_prompts(self):
            return ["violence"]

    plain = torch.cat(list(draw(tiny, PROMPTS, [1, 2, 3], sampler())))
    guarded = torch.cat(list(draw(tiny, PROMPTS, [1, 2, 3], sampler(), guard=Idle())))
    assert torch.allclose(plain, guarded, atol=1e-4)


def test_hooks_and_gradient_mode_end_between_batches(tiny):
    from contextlib import contextmanager

    attached = []

    class Hooked(Guard):
        @contextmanager
        def attached(self, parts):
            attached.append(set(parts))
            yield
            attached.pop()

    for _ in draw(tiny, PROMPTS, [1, 2, 3], sampler(batch_size=1, steps=1), guard=Hooked()):
        assert attached == []
        assert torch.is_grad_enabled()


def test_draw_names_every_prompt_that_is_too_long_before_drawing(tiny):
    long = ["cat " * 90, "dog " * 91]
    before = tiny.forwards
    with pytest.raises(ConfigError, match=r"2 of 4 are too long.*'cat cat.*92 tokens.*'dog dog.*93 tokens"):
        next(draw(tiny, ["a cat", *long], [0, 1, 2], sampler()))
    assert tiny.forwards == before


def test_draw_of_nothing_and_of_mismatched_seeds(tiny):
    assert list(draw(tiny, [], [], sampler())) == []
    with pytest.raises(ValueError, match="one per prompt, got 2 for 1"):
        next(draw(tiny, ["a cat"], [1, 2], sampler()))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scheduler", "eulr", "scheduler: Unknown scheduler 'eulr'. Did you mean 'euler'?"),
        ("steps", 0, "steps: must be at least 1, got 0"),
        ("batch_size", 0, "batch_size: must be at least 1, got 0"),
        ("guidance", -1.0, "guidance: must be a number from 0 up, got -1.0"),
        ("guidance", math.nan, "guidance: must be a number from 0 up, got nan"),
        ("resolution", 60, "resolution: must be a multiple of 8, at least 8, got 60"),
    ],
)
def test_settings_out_of_range(field, value, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        sampler(**{field: value})
    assert message in str(caught.value)
