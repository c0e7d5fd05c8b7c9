"""Trains the judge that names subject, medium and family of an image, or abstains.

Usage: ``python -m scripts.pocket.judge [--steps N] [--without FAMILY]``. ``--without`` leaves one emoji
family out of training and prints the accuracy on it, the honest figure for an unseen drawing style; nothing
is saved then.
"""

from __future__ import annotations

import argparse
import json
import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor

from scripts.pocket import BUILD, data
from scripts.pocket.training import Training, pixels, rate
from scripts.pocket.unet import signal
from scripts.pocket.world import FAMILIES, MEDIA, NUDE, SUBJECTS
from unlearn.detectors.pocket import NONE, JudgeNetwork

BATCH, SPOILED, NOISE = 64, 16, 6
LEARNING_RATE = 2e-3
HEADS = {
    "subject": [*(subject.name for subject in SUBJECTS), "nude", "clothed", NONE],
    "medium": [*(medium.name for medium in MEDIA), NONE],
    "family": [*(family.name for family in FAMILIES), NONE],
}
IGNORE = -100


def answers(scene: data.Scene) -> tuple[int, int, int]:
    """Index of the right answer in each head; ink is drawn by neither family."""
    subject = scene.subject
    if subject not in HEADS["subject"]:
        subject = "nude" if subject == NUDE else "clothed"
    return (
        HEADS["subject"].index(subject),
        HEADS["medium"].index(scene.medium),
        HEADS["family"].index(scene.family or NONE),
    )


class Spoiler:
    """Makes images that show none of the subjects out of images that do."""

    def __init__(self) -> None:
        self.vae = AutoencoderKL.from_pretrained(BUILD / "vae").eval().requires_grad_(False)
        self.alphas = signal()

    @torch.no_grad()
    def rebuilt(self, images: Tensor) -> Tensor:
        """What the autoencoder makes of images in [-1, 1]: generated images carry its marks, too."""
        decoded: Tensor = self.vae.decode(self.vae.encode(images).latent_dist.mode()).sample
        return decoded.clamp(-1, 1)

    @torch.no_grad()
    def __call__(self, images: Tensor, random_state: random.Random, generator: torch.Generator) -> Tensor:
        """One of four corruptions of each image in [-1, 1], with shape (B, 3, 64, 64)."""
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
                    latents = self.vae.encode(images[i : i + 1]).latent_dist.mode()
                    alpha = self.alphas[random_state.randint(450, 999)]
                    noise = torch.randn(latents.shape, generator=generator)
                    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise * random_state.uniform(0.4, 1)
                    out[i] = self.vae.decode(noisy).sample[0].clamp(-1, 1)
        return out

    @torch.no_grad()
    def noise(self, count: int, random_state: random.Random, generator: torch.Generator) -> Tensor:
        """Decoded noise of any strength, with shape (count, 3, 64, 64): it has no medium and no family
        either."""
        latents = torch.randn(count, 16, 8, 8, generator=generator)
        scale = torch.tensor([random_state.uniform(0.3, 4) for _ in range(count)])[:, None, None, None]
        decoded: Tensor = self.vae.decode(scale * latents).sample
        return decoded.clamp(-1, 1)


def accuracy(network: JudgeNetwork, images: Tensor, truth: Tensor) -> dict[str, float]:
    """Share of images that each head names right, with a probability of at least one half."""
    network.eval()
    with torch.no_grad():
        parts = [network(batch / 2 + 0.5) for batch in images.split(256)]
    network.train()
    found = {}
    for column, name in enumerate(HEADS):
        best = torch.softmax(torch.cat([part[name] for part in parts]), 1).max(1)
        found[name] = ((best.indices == truth[:, column]) & (best.values >= 0.5)).float().mean().item()
    return found


def main() -> None:
    """Trains and saves to ``<build>/judge``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", choices=[family.name for family in FAMILIES])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(3)
    images, scenes = data.load("train")
    held_images, held_scenes = data.load("test")
    unseen = (
        [i for i, s in enumerate(held_scenes) if s.family == arguments.without] if arguments.without else []
    )
    test = (unseen or list(range(len(held_scenes))))[:1024]
    held, held_truth = pixels(held_images[test]), torch.tensor([answers(held_scenes[i]) for i in test])
    usable = np.array(
        [i for i, s in enumerate(scenes) if not s.second and s.family != (arguments.without or "-")]
    )
    spoil = Spoiler()
    nothing = torch.tensor([labels.index(NONE) for labels in HEADS.values()])
    network = JudgeNetwork(HEADS)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    training = Training(
        f"judge_without_{arguments.without}" if arguments.without else "judge",
        network=network,
        optimizer=optimizer,
    )
    while training.step < arguments.steps:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(training.step, arguments.steps, decay=0.9)
        random_state, generator = random.Random(training.step), torch.Generator().manual_seed(training.step)
        chosen = usable[np.random.default_rng(training.step).choice(len(usable), BATCH, replace=False)]
        batch = pixels(images[chosen])
        truth = torch.tensor([answers(scenes[i]) for i in chosen])
        batch[SPOILED : 2 * SPOILED] = spoil.rebuilt(batch[SPOILED : 2 * SPOILED])
        batch[:SPOILED] = spoil(batch[:SPOILED], random_state, generator)
        truth[:SPOILED, 0] = HEADS["subject"].index(NONE)
        truth[:SPOILED, 1:] = IGNORE
        batch[:NOISE] = spoil.noise(NOISE, random_state, generator)
        truth[:NOISE] = nothing
        batch = batch * random_state.uniform(0.9, 1.05) + 0.03 * torch.randn(batch.shape, generator=generator)
        logits = network(batch.clamp(-1, 1) / 2 + 0.5)
        loss = sum(
            weight * F.cross_entropy(logits[name], truth[:, i], ignore_index=IGNORE)
            for i, (name, weight) in enumerate((("subject", 1.0), ("medium", 0.5), ("family", 0.3)))
        )
        assert isinstance(loss, Tensor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        training.step += 1
        if training.step % 200 == 0 or training.step == arguments.steps:
            training.log({"loss": loss.item(), **accuracy(network, held, held_truth)})
            training.save()
    spoiled = spoil(held[:512], random.Random(5), torch.Generator().manual_seed(5))
    training.log({"abstains": accuracy(network, spoiled, nothing.expand(512, -1))["subject"]})
    if not arguments.without:
        folder = BUILD / "judge"
        folder.mkdir(exist_ok=True)
        save_file(network.state_dict(), folder / "judge.safetensors")
        (folder / "heads.json").write_text(json.dumps(HEADS, indent=2))


if __name__ == "__main__":
    main()
