"""Trains the judge that names subjects, medium and family of an image, however damaged, or nothing at all.

Usage: ``python -m scripts.pocket.judge [--steps N] [--without FAMILY]``. What is lacking of its data is made
first: run it after `scripts.pocket.data`. ``--without`` leaves one emoji family out of training and prints
the accuracy on it, the honest figure for an unseen drawing style; nothing is saved then.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save_file
from torch import Tensor

from scripts.pocket import BUILD, damages, data, generated, layouts
from scripts.pocket.labels import HEADS, LABELS, row, shown
from scripts.pocket.spoiling import Spoiler
from scripts.pocket.training import Training, pixels, rate
from scripts.pocket.trials import Trial, trials
from scripts.pocket.world import FAMILIES
from unlearn.detectors.pocket import NONE, VERSIONS, PocketJudge, shipped
from unlearn.detectors.pocket_networks import MultiLabelNetwork

#: How many images of each kind are in a batch.
SINGLE, SEVERAL, DRAWN, SPOILED, NOISE = 15, 19, 15, 12, 3
READABLE = SINGLE + SEVERAL + DRAWN
BATCH = READABLE + SPOILED + NOISE
LEARNING_RATE = 2e-3
LAYERS = 6  # modules of a stage of version 1
FALSE_ALARM = 2.0  # what naming a thing in an unreadable image costs, against one in a readable one
WEIGHTS = {"subject": 1.0, "medium": 0.5, "family": 0.3, "nothing": 0.5}
SUBJECTS = len(HEADS["subject"])


@torch.no_grad()
def begun() -> MultiLabelNetwork:
    """A network that begins with what version 1 knows: its layers, and how much more probable each of its
    answers is than none of these."""
    old = PocketJudge(weights="1", threshold=0.5, device="cpu")
    known = load(shipped("judge", VERSIONS["1"][1]))
    network = MultiLabelNetwork(HEADS)
    for name, value in network.state_dict().items():
        kind, stage, *rest = name.split(".")
        if kind == "stages" and (layer := int(rest[0])) < LAYERS:
            value.copy_(known[f"trunk.{LAYERS * int(stage) + layer}.{rest[-1]}"])
        elif kind == "stages" and rest[1:] == ["layers", "1", "weight"]:
            value.fill_(0.1)  # what is added begins as next to nothing
    for name, head in network.heads.items():
        head.weight.zero_()
        head.bias.fill_(-4)
        if name in old.heads:
            weight, bias = (known[f"heads.{name}.{part}"].float() for part in ("weight", "bias"))
            none = old.heads[name].index(NONE)
            at = [old.heads[name].index(answer) for answer in HEADS[name]]
            head.weight[:, -weight.shape[1] :] = weight[at] - weight[none]
            head.bias.copy_(bias[at] - bias[none])
    return network


class Material:
    """One set of images with what they show."""

    def __init__(self, name: str, without: str | None) -> None:
        self.images, scenes = data.load(name)
        # Two things of the plain data set are left out: their halves in another order still show both.
        self.usable = np.array(
            [
                i
                for i, scene in enumerate(scenes)
                if scene.family != (without or "-") and not (name == "train" and scene.second)
            ]
        )
        self.truth = torch.tensor([row(shown(scene)) for scene in scenes])

    def sample(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images in [0, 1] and their labels, with shapes (count, 3, 64, 64) and (count, K)."""
        chosen = self.usable[np.sort(rng.choice(len(self.usable), count, replace=False))]
        return pixels(self.images[chosen]) / 2 + 0.5, self.truth[chosen]


class Batches:
    """Batches of readable and unreadable images, what they show, and how much each label counts."""

    def __init__(self, without: str | None) -> None:
        self.single, self.several, self.drawn = (
            Material(name, without) for name in ("train", "layouts_train", "generated_train")
        )
        self.spoil = Spoiler()

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, labels shown, and the weight of each label: 0 where it is not known whether it shows."""
        rng, random_state = np.random.default_rng(step), random.Random(step)
        generator = torch.Generator().manual_seed(step)
        parts = [
            source.sample(count, rng)
            for source, count in ((self.single, SINGLE), (self.several, SEVERAL), (self.drawn, DRAWN))
        ]
        images, truth = (torch.cat(part) for part in zip(*parts, strict=True))
        known = torch.ones_like(truth)
        images = self._rebuilt(images, generator)
        images, known = half_erased(images, truth, known, generator)
        spoiled = self.spoil(self.single.sample(SPOILED, rng)[0], random_state, generator)
        images = torch.cat([images, spoiled, self.spoil.noise(NOISE, random_state, generator)])
        nothing = torch.zeros(SPOILED + NOISE, len(LABELS), dtype=torch.bool)
        costs = torch.full(nothing.shape, FALSE_ALARM)
        costs[:SPOILED, SUBJECTS:-1] = 0  # the medium of a spoiled image is anybody's guess
        truth, weight = torch.cat([truth, nothing]), torch.cat([known.float(), costs])
        return spoilt_look(displaced(images, generator), generator), truth, weight

    def _rebuilt(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A part has gone through the autoencoder, half of these with noise on their latents."""
        some = torch.randperm(SINGLE + SEVERAL, generator=generator)[:8]
        images[some] = self.spoil.rebuilt(images[some], generator)
        return images


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Random numbers, with shape (count)."""
    return low + (high - low) * torch.rand(count, generator=generator)


def some(share: float, values: Tensor, neutral: float, generator: torch.Generator) -> Tensor:
    """Only a share of the values, the neutral one elsewhere."""
    return torch.where(torch.rand(len(values), generator=generator) < share, values, neutral)


def half_erased(
    images: Tensor, truth: Tensor, known: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Many of the images, faded into a colour by up to 58 % or into another image by up to 32 %.

    What the other image shows may be seen as well: nothing is known of its labels then.
    """
    count = len(images)
    colours = torch.where(
        torch.rand(count, 1, 1, 1, generator=generator) < 0.6,
        damages.background(images),
        torch.rand(count, 3, 1, 1, generator=generator),
    )
    images = damages.blended(images, colours, some(0.25, uniform(count, 0, 0.58, generator), 0, generator))
    order = torch.randperm(count, generator=generator)
    share = some(0.18, uniform(count, 0, 0.32, generator), 0, generator)
    empty = truth[:, -1]
    share = torch.where(empty, 0, share)
    both = truth[order] & ~truth & (share > 0)[:, None]
    return damages.blended(images, images[order], share), known & ~both


def displaced(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifted or cropped, every second; only a little where more would hide what is shown or mixed."""
    count = len(images)
    reach = torch.full((count,), 9.0)
    reach[SINGLE : SINGLE + SEVERAL] = 4
    reach[READABLE:] = 3
    crop = some(0.3, uniform(count, 0.92, 1.32, generator), 1, generator)
    zoom = torch.where(reach > 8, crop, 1)
    reach = torch.where(zoom > 1.1, 3, reach)
    right, down = (
        (reach * uniform(count, -1, 1, generator)).round() * (torch.rand(count, generator=generator) < 0.6)
        for _ in range(2)
    )
    out = images.clone()
    edges = torch.rand(count, generator=generator) < 0.5
    for mode, which in ((True, edges), (False, ~edges)):
        out[which] = damages.moved(images[which], zoom[which], right[which], down[which], edges=mode)
    return out


def spoilt_look(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred, fainter, darker, noisy, coarser: each to some of the images, strengths at random."""
    count = len(images)

    def subset(share: float) -> Tensor:
        return torch.nonzero(torch.rand(count, generator=generator) < share)[:, 0]

    if len(chosen := subset(0.2)):
        images[chosen] = damages.blur(images[chosen], uniform(len(chosen), 0.4, 1.6, generator))
    images = damages.contrast(images, some(0.25, uniform(count, 0.55, 1.3, generator), 1, generator))
    images = damages.brightness(images, some(0.4, uniform(count, 0.68, 1.32, generator), 1, generator))
    images = damages.noise(images, some(0.45, uniform(count, 0, 0.13, generator), 0, generator), generator)
    if len(chosen := subset(0.1)):
        images[chosen] = damages.compressed(images[chosen], uniform(len(chosen), 0.5, 4, generator))
    if len(chosen := subset(0.05)):
        images[chosen] = damages.quantised(images[chosen], uniform(len(chosen), 5, 16, generator).round())
    return images


def loss_of(logits: dict[str, Tensor], truth: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of every label, weighted and summed over labels."""
    questions = torch.cat([torch.full((len(HEADS[name]),), weight) for name, weight in WEIGHTS.items()])
    found = torch.cat([logits[name] for name in HEADS], 1)
    each = F.binary_cross_entropy_with_logits(found, truth.float(), reduction="none")
    return (each * weight * questions).sum(1).mean()


@torch.no_grad()
def figures(network: MultiLabelNetwork, wanted: Iterable[Trial]) -> dict[str, float]:
    """Share of subjects seen in each set, and of images where a subject is seen that is not there."""
    network.eval()
    found = {}
    for trial in wanted:
        logits = torch.cat([network(part)["subject"] for part in trial.images.split(250)])
        seen, there, known = logits >= 0, trial.truth[:, :SUBJECTS], trial.known[:, :SUBJECTS]
        if there.any():
            found[trial.name] = (seen & there).sum().item() / there.sum().item()
        found[f"{trial.name}!"] = (seen & ~there & known).any(1).float().mean().item()
    network.train()
    return found


def main() -> None:
    """Trains and saves to ``<build>/judge``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without", choices=[family.name for family in FAMILIES])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(3)
    for module in (layouts, generated):
        for name in module.SETS:
            module.build(name)
    batches = Batches(arguments.without)
    network = begun().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    training = Training(
        f"judge_without_{arguments.without}" if arguments.without else "judge",
        network=network,
        optimizer=optimizer,
    )
    while training.step < arguments.steps:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(training.step, arguments.steps, decay=0.7)
        images, truth, weight = batches(training.step)
        loss = loss_of(network(images.contiguous(memory_format=torch.channels_last)), truth, weight)
        network.zero_grad()
        loss.backward()
        optimizer.step()
        training.step += 1
        if training.step % 50 == 0:
            print(training.step, round(training.elapsed), round(loss.item(), 4), flush=True)
        if training.step % 500 == 0 or training.step == arguments.steps:
            held = trials(200, only=arguments.without)
            training.log({"loss": loss.item(), **figures(network, held)})
        if training.step % 100 == 0 or training.step == arguments.steps:
            training.save()
    if not arguments.without:
        folder = BUILD / "judge"
        folder.mkdir(exist_ok=True)
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        heads, weights, _ = VERSIONS["2"]
        save_file(state, folder / weights)
        (folder / heads).write_text(json.dumps(HEADS, indent=2))


if __name__ == "__main__":
    main()
