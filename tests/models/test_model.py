"""Encoding, prediction, decoding, the noise schedule, and applying an erasure."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny_checkpoint import assert_untouched, state, tiny_settings, write_tiny

from unlearn.errors import ArtifactError, ConfigError
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning
from unlearn.models.sampling import Sampler, sample

KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def test_encode_is_the_text_encoders_own_forward(tiny):
    ids = tiny.tokenize(["a photo of a cat", "", "van gogh"])
    assert ids.shape == (3, 77)
    expected = tiny.parts["text_encoder"](ids).last_hidden_state
    assert torch.equal(tiny.encode(["a photo of a cat", "", "van gogh"]).tokens, expected)


def test_gradients_reach_token_embeddings_but_no_later_token_reaches_an_earlier_one(tiny):
    embeddings = tiny.embed(tiny.tokenize(["a photo of a cat"])).requires_grad_()
    tiny.encode_embeddings(embeddings).tokens[0, 5, 0].backward()
    reached = embeddings.grad[0].abs().sum(-1) > 0
    assert reached[:6].all()
    assert not reached[6:].any()


def test_a_prompt_of_exactly_all_positions_fits_and_one_more_does_not(tiny):
    words = "cat " * 75
    assert (tiny.tokenize([words])[0] == tiny.tokenizer.eos_token_id).nonzero().flatten().tolist() == [76]
    with pytest.raises(ConfigError, match=r"reads 77 tokens.*78 tokens\)"):
        tiny.tokenize([words + "cat"])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_noise_schedule_agrees_with_diffusers_and_with_itself(prediction, tmp_path):
    model = tiny_settings(write_tiny(tmp_path / prediction, prediction)).load("cpu")
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    t = torch.tensor([1, 500, 999])
    scheduler = model.scheduler("ddim", 10)
    noisy = model.add_noise(latents, noise, t)
    assert torch.allclose(noisy, scheduler.add_noise(latents, noise, t), atol=1e-6)
    target = model.target(latents, noise, t)
    if prediction == "epsilon":
        assert torch.equal(target, noise)
    else:
        assert torch.allclose(target, scheduler.get_velocity(latents, noise, t), atol=1e-6)
    # At t = 999 alpha is 0.07, so that epsilon's rounding is magnified 15 times.
    assert torch.allclose(model.denoised(noisy, t, target), latents, atol=1e-4)


def test_images_to_latents_and_back_have_the_shapes_that_the_model_says(tiny):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    latents = tiny.encode_images(images)
    assert latents.shape == (2, *tiny.latent_shape(32)) == (2, 4, 8, 8)
    vae = tiny.parts["vae"]
    assert torch.equal(latents, vae.encode(images * 2 - 1).latent_dist.mean * vae.config.scaling_factor)
    assert tiny.decode(latents).shape == images.shape


def test_conditionings_are_cut_repeated_and_joined_row_by_row():
    both = Conditioning(torch.arange(12.0).reshape(2, 3, 2), torch.arange(4.0).reshape(2, 2))
    joined = Conditioning.cat([both[1:], both[[0, 0]]])
    assert len(joined) == 3
    assert torch.equal(joined.tokens, both.tokens[[1, 0, 0]])
    assert torch.equal(joined.pooled, both.pooled[[1, 0, 0]])
    assert torch.equal(both.repeat(2).tokens, both.tokens[[0, 1, 0, 1]])
    assert torch.equal(both.repeat(2).pooled, both.pooled[[0, 1, 0, 1]])
    assert Conditioning.cat([Conditioning(both.tokens)]).pooled is None


def test_an_erasure_changes_predictions_only_while_it_is_applied(tiny):
    before = state(tiny)
    erasure = Erasure(weights={KEY: before[KEY] + 1})
    inputs = torch.ones(1, 4, 8, 8), torch.tensor(500), tiny.encode(["a cat"])
    original = tiny.predict(*inputs)
    with tiny.erased(erasure) as erased:
        assert torch.equal(dict(erased.named_parameters())[KEY], before[KEY] + 1)
        assert not torch.equal(tiny.predict(*inputs), original)
        dict(erased.named_parameters())[KEY].data.zero_()
    assert_untouched(tiny, before)
    assert torch.equal(erasure.weights[KEY], before[KEY] + 1)
    assert torch.equal(tiny.predict(*inputs), original)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_erasure_is_taken_off_after_an_exception(tiny, error):
    before = state(tiny)
    with pytest.raises(error), tiny.erased(Erasure(weights={KEY: before[KEY] + 1})):
        raise error
    assert_untouched(tiny, before)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"unet.nothing.weight": torch.zeros(1)}, "weight 'unet.nothing.weight' is not in this model"),
        ({KEY: torch.zeros(2, 2)}, r"has shape \(2, 2\), this model's has \(32, 32\)"),
    ],
)
def test_an_erasure_of_another_model_is_refused(tiny, weights, message):
    before = state(tiny)
    with pytest.raises(ArtifactError, match=message), tiny.erased(Erasure(weights=weights)):
        pass
    assert_untouched(tiny, before)


def test_an_erasure_is_the_same_after_saving_and_loading(tmp_path):
    weights = {"unet.a": torch.randn(3, 2).t(), "unet.b": torch.randn(2).half()}
    Erasure(weights=weights, history=[{"loss": 0.5}, {"loss": 0.25}]).save(tmp_path)
    loaded = Erasure.load(tmp_path)
    assert loaded.history == [{"loss": 0.5}, {"loss": 0.25}]
    assert loaded.weights.keys() == weights.keys()
    for name, weight in weights.items():
        assert loaded.weights[name].dtype == weight.dtype
        assert torch.equal(loaded.weights[name], weight)


def test_an_empty_erasure_can_be_saved(tmp_path):
    Erasure().save(tmp_path)
    assert Erasure.load(tmp_path) == Erasure()


@pytest.mark.parametrize("damage", ["cut", "missing weights", "missing history", "bad history"])
def test_a_damaged_erasure_is_refused(tmp_path, damage):
    Erasure(weights={"unet.a": torch.randn(30)}).save(tmp_path)
    weights, history = tmp_path / "weights.safetensors", tmp_path / "history.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-8])
    elif damage == "missing weights":
        weights.unlink()
    elif damage == "missing history":
        history.unlink()
    else:
        history.write_text("[{")
    with pytest.raises(ArtifactError, match="does not hold a whole erasure"):
        Erasure.load(tmp_path)


@pytest.mark.golden
def test_golden_base(golden):
    """The environment check of the golden outputs: text, predictions, samples, latents of images."""
    case = json.loads((golden / "base" / "tiny_sd.json").read_text())
    tensors = load_file(golden / "base" / case["tensors_file"])
    inputs = case["inputs"]
    model = tiny_settings(golden / "tiny-sd").load("cpu")
    for prompt, tokens in inputs["tokens"].items():
        assert model.tokenize([prompt])[0][: len(tokens["ids"])].tolist() == tokens["ids"]

    encoded = model.encode(inputs["prompts"])
    timesteps = torch.tensor(inputs["unet_timesteps"])
    found = {
        "last_hidden_state": encoded.tokens,
        "unet_out": model.predict(tensors["unet_in"], timesteps, encoded),
        "vae_mean": model.encode_images(tensors["image"].permute(0, 3, 1, 2))
        / model.parts["vae"].config.scaling_factor,
    }
    size = tensors["image"].shape[1]
    for run in inputs["sampling"]:
        settings = Sampler(
            scheduler="pndm", steps=run["steps"], guidance=run["guidance"], resolution=size, batch_size=1
        )
        arguments = model.encode([run["prompt"]]), model.encode([""]), [run["seed"]], settings
        latents, _ = sample(model, *arguments)
        if run["output"] == "latents":
            found["latents"] = latents
        else:
            found["image"] = model.decode(latents).permute(0, 2, 3, 1)

    tolerance = {
        name: entry["tol"] for names, entry in case["tolerance"].items() for name in names.split(", ")
    }
    for name, value in found.items():
        error = (value - tensors[name]).norm() / tensors[name].norm()
        assert error <= tolerance[name], name
