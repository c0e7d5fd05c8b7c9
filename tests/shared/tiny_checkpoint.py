"""A random Stable Diffusion of some 360,000 weights, written without a network.

The tokenizer's merges are learned from a sentence, and the weights are random.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from unlearn.models.families.sd import StableDiffusion
from unlearn.models.sampling import Sampler

CORPUS = (
    "a photo of a cat and a dog, a church beside a house, the parachute, a nude person wearing clothes, "
    "a garbage truck, a painting in the style of van gogh, sketch of a tench, violence, nudity"
)


def write_tokenizer(folder: Path) -> int:
    """Writes a byte-level CLIP tokenizer; returns its vocabulary size, whose last entry is the end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    learner.train_from_iterator([CORPUS], trainers.BpeTrainer(vocab_size=150, end_of_word_suffix="</w>"))
    merges = [" ".join(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    words = [*bytes_, *(f"{byte}</w>" for byte in bytes_), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(words)) == len(words)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(words)


def write_tiny(folder: Path, prediction: str = "epsilon") -> Path:
    """Writes a random checkpoint in Stable Diffusion's format: 32 pixels, 4 x 8 x 8 latents."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary = write_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                bos_token_id=vocabulary - 2,
                eos_token_id=vocabulary - 1,
                pad_token_id=vocabulary - 1,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=32,
            mid_block_add_attention=False,
        )
    text.save_pretrained(folder / "text_encoder")
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def tiny_settings(source: Path | str, resolution: int = 32) -> StableDiffusion:
    """The component that loads a tiny checkpoint."""
    return StableDiffusion(
        world="pocket",
        source=str(source),
        revision=None,
        dtype="float32",
        clip="clip",
        inception="clip",
        sampler=Sampler(scheduler="ddim", steps=4, guidance=3.0, resolution=resolution, batch_size=4),
    )


def state(model) -> dict[str, torch.Tensor]:
    """Copies of all weights."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_untouched(model, before: dict[str, torch.Tensor]) -> None:
    """The weights are those of :func:`state` bit for bit, and nothing waits for gradients."""
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None
        assert not parameter.requires_grad
