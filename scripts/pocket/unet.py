"""Trains pocket's denoiser on the frozen text tower, as Stable Diffusion was trained.

Usage: ``python -m scripts.pocket.unet [--steps N] [--threads N]``, or with two processes ``torchrun
--nproc-per-node 2 -m scripts.pocket.unet ...``, which beat two threads on two cores. Resumes where it was
killed; ``--steps`` may change on resume. Writes the averaged weights to ``<build>/unet`` at every
checkpoint.
"""

from __future__ import annotations

import argparse
import os
import random
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import CLIPTextModel, CLIPTokenizer

from scripts.pocket import BUILD, data
from scripts.pocket.captions import caption
from scripts.pocket.training import Muon, Training, pixels, rate
from scripts.pocket.world import HELD_OUT

BATCH = 48
MATRIX_RATE, VECTOR_RATE = 0.02, 2e-3
UNCONDITIONAL = 0.1
CAPTIONS = 3  # ways to say each image
BETAS = (0.00085, 0.012)


def build() -> UNet2DConditionModel:
    """A fresh denoiser of 4 M parameters, cross-attention at 8 by 8 and 4 by 4."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,  # the number of heads: diffusers keeps the old name
        norm_num_groups=16,
    )


def signal(steps: int = 1000) -> Tensor:
    """Cumulative product of alphas for the scaled-linear schedule, with shape (steps,)."""
    betas = torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, steps) ** 2
    return torch.cumprod(1 - betas, 0)


@torch.no_grad()
def latents() -> tuple[Tensor, list[data.Scene]]:
    """Encoded training images, without the held-out pairs; made once."""
    path = BUILD / "latents.pt"
    images, scenes = data.load("train")
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(BUILD / "vae").eval()
        batches = [
            vae.encode(pixels(images[i : i + 64])).latent_dist.mode().half()
            for i in range(0, len(images), 64)
        ]
        temporary = Path(f"{path}.tmp")
        torch.save(torch.cat(batches), temporary)
        temporary.replace(path)
    keep = [
        i for i, s in enumerate(scenes) if {(s.subject, s.medium), (s.second, s.medium)}.isdisjoint(HELD_OUT)
    ]
    encoded: Tensor = torch.load(path, weights_only=True)
    return encoded[keep], [scenes[i] for i in keep]


@torch.no_grad()
def captions(scenes: list[data.Scene]) -> tuple[Tensor, Tensor]:
    """Encoded captions with shape (M, 77, 128), the empty one first, and which of them fit each scene, (N,
    CAPTIONS).

    The text tower is frozen, so each distinct caption is encoded once, before training.
    """
    path = BUILD / "captions.pt"
    random_state = random.Random(11)
    known: dict[str, int] = {"": 0}
    fitting = [
        [known.setdefault(caption(scene, random_state), len(known)) for _ in range(CAPTIONS)]
        for scene in scenes
    ]
    if not path.exists():
        tokenizer = CLIPTokenizer.from_pretrained(BUILD / "tokenizer")
        tower = CLIPTextModel.from_pretrained(BUILD / "text_start", dtype=torch.float32).eval()
        texts, found = list(known), []
        for i in range(0, len(texts), 128):
            ids = tokenizer(
                texts[i : i + 128], padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids
            found.append(tower(ids).last_hidden_state.half())
        temporary = Path(f"{path}.tmp")
        torch.save(torch.cat(found), temporary)
        temporary.replace(path)
    return torch.load(path, weights_only=True, mmap=True), torch.tensor(fitting)


def average(gradients: list[nn.Parameter], world: int) -> None:
    """Averages the gradients over the processes, in one message."""
    flat = torch.cat([p.grad.flatten() for p in gradients if p.grad is not None])
    dist.all_reduce(flat)
    flat /= world
    offset = 0
    for parameter in gradients:
        if parameter.grad is not None:
            parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
            offset += parameter.numel()


def main() -> None:
    """Trains until the given number of steps (of one batch a process)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    if rank == 0:
        captions(latents()[1])
    if world > 1:
        dist.barrier()
    encoded, scenes = latents()
    said, fitting = captions(scenes)
    model = build()
    averaged = deepcopy(model).requires_grad_(False)
    matrices = Muon([p for p in model.parameters() if p.ndim > 1], MATRIX_RATE)
    vectors = torch.optim.AdamW(
        [p for p in model.parameters() if p.ndim == 1], VECTOR_RATE, betas=(0.9, 0.99)
    )
    training = Training("unet", model=model, averaged=averaged, matrices=matrices, vectors=vectors)
    model.train()
    parameters = list(model.parameters())
    alphas = signal()
    weights = (5 * (1 - alphas) / alphas).clamp(max=1.0)  # min-SNR with gamma 5, for noise prediction
    smooth = 0.0
    while training.step < arguments.steps:
        for optimizer, peak in ((matrices, MATRIX_RATE), (vectors, VECTOR_RATE)):
            optimizer.param_groups[0]["lr"] = peak * rate(training.step, arguments.steps, decay=0.5)
        generator = torch.Generator().manual_seed(training.step * 64 + rank)
        chosen = torch.randint(len(encoded), (BATCH,), generator=generator)
        wording = fitting[chosen, torch.randint(CAPTIONS, (BATCH,), generator=generator)]
        wording[torch.rand(BATCH, generator=generator) < UNCONDITIONAL] = 0
        clean, context = encoded[chosen].float(), said[wording].float()
        timesteps = torch.randint(0, len(alphas), (BATCH,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        alpha = alphas[timesteps][:, None, None, None]
        predicted = model(alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, timesteps, context).sample
        loss = (weights[timesteps] * (predicted - noise).square().mean((1, 2, 3))).mean()
        model.zero_grad()
        loss.backward()
        if world > 1:
            average(parameters, world)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        matrices.step()
        vectors.step()
        training.step += 1
        smooth = loss.item() if not smooth else 0.98 * smooth + 0.02 * loss.item()
        decay = min(0.998, (1 + training.step) / (10 + training.step))
        get_ema_multi_avg_fn(decay)(list(averaged.parameters()), parameters, None)
        if rank == 0 and training.step % 50 == 0:
            training.log({"loss": smooth, "samples": training.step * BATCH * world})
        if rank == 0 and (training.step % arguments.save_every == 0 or training.step == arguments.steps):
            training.save()
            averaged.save_pretrained(BUILD / "unet")


if __name__ == "__main__":
    main()
