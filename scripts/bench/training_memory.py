"""What full trainings of SD 1.4's size hold in memory, counted without a GPU.

    python -m scripts.bench.training_memory

Weights, gradients, Adam's moments and the kept originals are counted from random networks of SD 1.4's shapes;
what one latent of 64 x 64 leaves for the way back is measured on them in float32, as the highest memory of a
forward and a backward pass on the CPU above that of the networks and the gradients. In half precision,
activations take about half of that. The autoencoder has no part in a training, once states are drawn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import torch

from scripts.bench.peak import Peak

GIB = 2**30


def unet() -> Any:
    """A random denoiser of SD 1.4's shape."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)


def text_encoder() -> Any:
    """A random text encoder of its shape, which is that of CLIP ViT-L/14."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    return CLIPTextModel(config)


def activations(checkpointing: bool, trained: bool) -> float:
    """GiB of one latent's forward and backward pass, with all of the denoiser trained or nothing of it."""
    network = unet().requires_grad_(trained).train()
    if checkpointing:
        network.enable_gradient_checkpointing()
    for parameter in network.parameters() if trained else ():
        parameter.grad = torch.ones_like(parameter)  # counted elsewhere, so it has to be there already
    context = torch.randn(1, 77, 768, requires_grad=True)
    peak = Peak()
    loss = (
        network(torch.randn(1, 4, 64, 64), torch.tensor([500]), encoder_hidden_states=context)[0]
        .square()
        .mean()
    )
    loss.backward()
    return peak.mib() / 1024


def count(module: Any, without: str = "-") -> float:
    """GiB of a module's weights in float32."""
    return sum(p.numel() * 4 for name, p in module.named_parameters() if without not in name) / GIB


def main() -> None:
    """Counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--part", nargs=2, type=int, help=argparse.SUPPRESS)
    if (part := parser.parse_args().part) is not None:
        print(activations(*map(bool, part)))
        return
    denoiser, text = count(unet()), count(text_encoder())
    open_text = count(text_encoder(), without="embeddings")
    command = [sys.executable, "-m", "scripts.bench.training_memory", "--part"]
    each = {
        (checkpointing, trained): float(
            subprocess.check_output([*command, str(int(checkpointing)), str(int(trained))]).split()[-1]
        )
        for checkpointing in (False, True)
        for trained in (False, True)
    }
    for key, value in each.items():
        print(f"one latent, checkpointing {key[0]}, denoiser trained {key[1]}: {value:.2f} GiB", flush=True)
    # Weights, gradients, two moments and the originals that are put back.
    full = {"ESD-u": 5 * denoiser + text, "AdvUnlearn": denoiser + text + 4 * open_text}
    half = {"ESD-u": 4.5 * denoiser + text / 2, "AdvUnlearn": (denoiser + text) / 2 + 4 * open_text}
    rows = {"ESD-u": 1, "AdvUnlearn": 6}
    for name, number in rows.items():
        for checkpointing in (False, True):
            alive = number * each[checkpointing, name == "ESD-u"]
            print(
                f"{name:10} checkpointing {checkpointing!s:5} float32 {full[name] + alive:5.1f} GiB   "
                f"bfloat16 {half[name] + alive / 2:5.1f} GiB   ({number} latents in a step)"
            )


if __name__ == "__main__":
    main()
