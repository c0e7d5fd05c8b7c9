"""Makes images that show none of the subjects out of images that do; and what the autoencoder does to one."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from scripts.pocket.unet import signal

#: Generated images carry the marks of the autoencoder that ships.
VAE = Path("unlearn/data/pocket/vae")


class Spoiler:
    """Images are in [0, 1], with shape (B, 3, 64, 64)."""

    def __init__(self) -> None:
        self.vae = AutoencoderKL.from_pretrained(VAE, torch_dtype=torch.float32).eval().requires_grad_(False)
        self.alphas = signal()

    @torch.no_grad()
    def rebuilt(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the autoencoder makes of images; with noise on every second's latents if there is a
        generator."""
        latents = self._encoded(images)
        if generator is not None:
            strength = 0.3 * torch.rand(len(images), 1, 1, 1, generator=generator)
            strength[::2] = 0
            latents = latents + strength * torch.randn(latents.shape, generator=generator)
        return self._decoded(latents)

    @torch.no_grad()
    def __call__(self, images: Tensor, random_state: random.Random, generator: torch.Generator) -> Tensor:
        """One of four corruptions of each image."""
        out = images.clone()
        others = images.roll(1, 0)
        for i in range(len(images)):
            match random_state.randrange(4):
                case 0:  # two images in one
                    out[i] = images[i].lerp(others[i], random_state.uniform(0.35, 0.65))
                case 1:  # quarters in another order
                    tiles = [images[i][:, y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
                    order = random_state.choice([(3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1), (3, 0, 1, 2)])
                    a, b, c, d = (tiles[k] for k in order)
                    out[i] = torch.cat([torch.cat([a, b], 2), torch.cat([c, d], 2)], 1)
                case 2:  # half of one, half of another
                    mask = torch.zeros(64, 64, dtype=torch.bool)
                    mask[:, : random_state.randint(26, 38)] = True
                    out[i] = torch.where(
                        mask if random_state.random() < 0.5 else mask.T, images[i], others[i]
                    )
                case 3:  # latents with noise left in them, or nothing but noise
                    latents = self._encoded(images[i : i + 1])
                    alpha = self.alphas[random_state.randint(450, 999)]
                    noise = torch.randn(latents.shape, generator=generator)
                    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise * random_state.uniform(0.4, 1)
                    out[i] = self._decoded(noisy)[0]
        return out

    @torch.no_grad()
    def noise(self, count: int, random_state: random.Random, generator: torch.Generator) -> Tensor:
        """Decoded noise of any strength, with shape (count, 3, 64, 64): it has no medium and no family
        either."""
        latents = torch.randn(count, 16, 8, 8, generator=generator)
        scale = torch.tensor([random_state.uniform(0.3, 4) for _ in range(count)])[:, None, None, None]
        return self._decoded(scale * latents)

    def _encoded(self, images: Tensor) -> Tensor:
        latents: Tensor = self.vae.encode(2 * images - 1).latent_dist.mode()
        return latents

    def _decoded(self, latents: Tensor) -> Tensor:
        decoded: Tensor = self.vae.decode(latents).sample
        return (decoded / 2 + 0.5).clamp(0, 1)
