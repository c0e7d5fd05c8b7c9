"""Trains pocket's autoencoder: 64-pixel images to 16 latent channels of 8 by 8.

Usage: ``python -m scripts.pocket.vae [--steps N]``. Resumes where it was killed; at the end the latents'
channel means and deviations are folded into the 1x1 convolutions beside them, so that the scaling factor is
1.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from scripts.pocket import BUILD, data
from scripts.pocket.training import Muon, Training, pixels, psnr, rate

BATCH = 8
MATRIX_RATE, VECTOR_RATE = 0.02, 3e-3
CHANNELS = 16


def build() -> AutoencoderKL:
    """A fresh autoencoder: equal widths, no residual blocks on the way down, none with attention."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 32, 32),
        layers_per_block=0,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


@torch.no_grad()
def quality(model: AutoencoderKL, images: Tensor) -> float:
    """Mean PSNR in dB of reconstructed images."""
    return (
        psnr(model.decode(model.encode(images).latent_dist.mode()).sample.clamp(-1, 1), images).mean().item()
    )


@torch.no_grad()
def fold(model: AutoencoderKL, images: Tensor) -> None:
    """Makes the latents zero-mean and unit-variance per channel, exactly, in place."""
    latents = model.encode(images).latent_dist.mode()
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after = model.quant_conv, model.post_quant_conv
    before.weight[:CHANNELS] /= std[:, None, None, None]
    before.bias[:CHANNELS] = (before.bias[:CHANNELS] - mean) / std
    before.bias[CHANNELS:] -= 2 * std.log()  # the other half are log variances
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= std[None, :, None, None]


def main() -> None:
    """Trains, folds and saves to ``<build>/vae``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=7_000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images, _ = data.load("train")
    held = pixels(data.load("test")[0][:512])
    model = build()
    matrices = Muon([p for p in model.parameters() if p.ndim > 1], MATRIX_RATE)
    vectors = torch.optim.AdamW(
        [p for p in model.parameters() if p.ndim == 1], VECTOR_RATE, betas=(0.9, 0.99)
    )
    training = Training("vae", model=model, matrices=matrices, vectors=vectors)
    while training.step < arguments.steps:
        for optimizer, peak in ((matrices, MATRIX_RATE), (vectors, VECTOR_RATE)):
            optimizer.param_groups[0]["lr"] = peak * rate(
                training.step, arguments.steps, warmup=20, decay=0.7
            )
        random = np.random.default_rng(training.step)
        batch = pixels(images[np.sort(random.choice(len(images), BATCH, replace=False))])
        posterior = model.encode(batch).latent_dist
        latents = posterior.sample(generator=torch.Generator().manual_seed(training.step))
        rebuilt = model.decode(latents).sample
        divergence = posterior.kl().mean() / latents[0].numel()
        loss = (rebuilt - batch).square().mean() + 1e-5 * divergence
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        matrices.step()
        vectors.step()
        training.step += 1
        if training.step % 250 == 0:
            training.log({"loss": loss.item(), "psnr": quality(model, held[:128])})
            training.save()
    fold(model, pixels(images[::20]))
    model.save_pretrained(BUILD / "vae")
    training.log({"psnr": quality(model, held)})


if __name__ == "__main__":
    main()
