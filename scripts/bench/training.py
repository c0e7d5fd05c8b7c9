"""What a training step costs beside the plain recipe of the released scripts.

    python -m scripts.bench.training [--methods esd ...] [--unet pocket|mid] [--steps 3] [--memory]

The plain recipe, written out below, holds a second, frozen denoiser, calls it and the trained one apart for
each prediction, and draws the latents of every step, attack steps too, by a trajectory of their own from
noise to a random timestep; DoCo's encodes the images and sentences of each step. Both train the same
parameters on batches of the same size, with pocket's values. Ours is timed as a whole, with what it draws
once before training; of the plain one some steps are timed, warm-up among them in its share. DoCo's images of
anchors are drawn beforehand by both, and not timed. ``mid`` is a random denoiser of 50 million parameters on
16 by 16 latents, with batches of two.

With ``--memory`` each trains two steps of one latent in a process of its own; printed is the highest memory
above that of the loaded model, plus the denoiser's weights: text encoder, data and libraries are in neither.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.bench.peak import Peak
from unlearn.api import configure, load_model
from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, Meter
from unlearn.methods.training.doco.discriminator import Opponent, unrecognised
from unlearn.methods.training.doco.doco import DoCo
from unlearn.methods.training.material.anchors import Anchors
from unlearn.methods.training.surgery import clipped, protected
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.weights.parameters import select

METHODS = ("esd", "advunlearn", "doco")
RESOLUTIONS = {"pocket": 64, "mid": 128}


@dataclass
class Plain:
    """The recipe of the released scripts.

    Attributes:
        model: The model under training.
        denoiser, text: Frozen copies of its denoiser and its text encoder.
        random: Draws everything.
    """

    model: DiffusionModel
    denoiser: nn.Module
    text: nn.Module
    random: torch.Generator

    @classmethod
    def copied(cls, model: DiffusionModel) -> Plain:
        """With copies of the model's networks."""
        frozen = [copy.deepcopy(model.parts[part]).requires_grad_(False) for part in ("unet", "text_encoder")]
        return cls(model, frozen[0], frozen[1], torch.Generator().manual_seed(0))

    @torch.no_grad()
    def original(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """What the frozen denoiser predicts."""
        found: Tensor = self.denoiser(
            latents, timesteps, encoder_hidden_states=conditioning.tokens, return_dict=False
        )[0]
        return found

    @torch.no_grad()
    def drawn(self, conditioning: Conditioning, empty: Conditioning, sampler: Any) -> tuple[Tensor, Tensor]:
        """Latents of a trajectory that ends at a random step, and that step's timestep."""
        count = len(conditioning)
        scheduler = self.model.scheduler(sampler.scheduler, sampler.steps)
        latents = torch.randn(count, *self.model.latent_shape(sampler.resolution), generator=self.random)
        stop = int(torch.randint(sampler.steps, (), generator=self.random))
        for t in scheduler.timesteps[:stop]:
            negative = self.original(latents, t, empty.repeat(count))
            positive = self.original(latents, t, conditioning)
            guided = negative + sampler.guidance * (positive - negative)
            latents = scheduler.step(guided, t, latents, return_dict=False)[0]
        return latents, scheduler.timesteps[stop].repeat(count)


def esd_gradients(
    plain: Plain,
    latents: Tensor,
    t: Tensor,
    concept: Conditioning,
    empty: Conditioning,
    eta: float,
    parameters: Sequence[Tensor],
) -> Sequence[Tensor | None]:
    """Three predictions apart, and the gradient of one."""
    nothing = plain.original(latents, t, empty.repeat(len(latents)))
    asked = plain.original(latents, t, concept)
    trained = plain.model.predict(latents, t, concept)
    loss = (trained - (nothing - eta * (asked - nothing))).square().mean()
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def plain_esd(
    method: Any, plain: Plain, concepts: ConceptSet, parameters: list[Tensor]
) -> Callable[[], None]:
    """ESD's step: a trajectory, then three predictions."""
    model = plain.model
    with torch.no_grad():
        phrases = concepts.erased
        concept, empty = model.encode(phrases), model.encode([""])
    adam = torch.optim.Adam(parameters, lr=method.optimizer.lr)

    def step() -> None:
        rows = torch.randint(len(phrases), (method.batch_size,), generator=plain.random).tolist()
        latents, t = plain.drawn(concept[rows], empty, method.sampler)
        eta = method.negative_guidance
        apply(adam, parameters, esd_gradients(plain, latents, t, concept[rows], empty, eta, parameters))

    return step


def advunlearn_gradients(
    plain: Plain,
    forget: tuple[Tensor, Tensor, Conditioning, Tensor],
    retain: tuple[Tensor, Tensor, Conditioning, Tensor],
    empty: Conditioning,
    eta: float,
    gamma: float,
    parameters: Sequence[Tensor],
) -> Sequence[Tensor | None]:
    """Five predictions apart, and the gradient of two.

    Either side has its latents, their timesteps, what the original text encoder makes of the prompts, and
    embeddings for the trained one.
    """
    x, t, concept, attacked = forget
    asked = plain.original(x, t, concept)
    nothing = plain.original(x, t, empty.repeat(len(x)))
    target = nothing - eta * (asked - nothing)
    loss = (plain.model.predict(x, t, plain.model.encode_embeddings(attacked)) - target).square().mean()
    y, u, captions, said = retain
    wanted = plain.original(y, u, captions)
    again = plain.model.predict(y, u, plain.model.encode_embeddings(said))
    loss = loss + gamma * (again - wanted).square().mean()
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def plain_advunlearn(
    method: Any, plain: Plain, concepts: ConceptSet, parameters: list[Tensor]
) -> Callable[[], None]:
    """AdvUnlearn's step: attack steps with a trajectory each, then five predictions on two more."""
    model, attack = plain.model, method.attack
    sentences = concepts.erased
    slots = attack.slots(model, sentences)
    with torch.no_grad():
        concept, empty = model.encode(sentences), model.encode([""])
        kept = concepts.retained
        captions = model.encode(kept)
    gamma = next(iter(method.scales(concepts).values()))
    adam = torch.optim.Adam(parameters, lr=method.optimizer.lr)
    done = 0

    def step() -> None:
        nonlocal done
        rows = torch.randint(len(sentences), (method.batch_size,), generator=plain.random)
        own = slots[rows]

        def attacked(_step: int, perturbation: Tensor) -> Tensor:
            latents, t = plain.drawn(concept[rows.tolist()], empty, method.sampler)
            wanted = plain.original(latents, t, concept[rows.tolist()])
            embedded = model.encode_embeddings(attack.embed(model, own, perturbation))
            return (model.predict(latents, t, embedded) - wanted).square().mean()

        asked = model.embed(own.plain)
        if done >= method.warmup:
            start = attack.begin(model, own, None, plain.random)
            asked = attack.embed(model, own, attack.search(start, attacked)[0].detach())
        done += 1
        x, t = plain.drawn(concept[rows.tolist()], empty, method.sampler)
        chosen = torch.randint(len(kept), (method.retain_batch_size,), generator=plain.random).tolist()
        y, u = plain.drawn(captions[chosen], empty, method.sampler)
        said = model.embed(model.tokenize([kept[i] for i in chosen]))
        eta = method.negative_guidance
        forget, retain = (x, t, concept[rows.tolist()], asked), (y, u, captions[chosen], said)
        apply(adam, parameters, advunlearn_gradients(plain, forget, retain, empty, eta, gamma, parameters))

    return step


def doco_gradients(
    method: Any,
    plain: Plain,
    opponent: Opponent,
    latents: Tensor,
    t: Tensor,
    both: Conditioning,
    target: Tensor,
    parameters: Sequence[Tensor],
) -> tuple[Callable[[], Sequence[Tensor]], Tensor]:
    """One graph for both halves, the concept's and the anchor's.

    Returns:
        What gives the gradients, two passes back through all, and what the discriminator is shown.
    """
    forgotten, retained = plain.model.predict(latents, t, both).chunk(2)
    fake = plain.model.denoised(latents[: len(forgotten)], t[: len(forgotten)], forgotten)

    def gradients() -> Sequence[Tensor]:
        loss = unrecognised(opponent.network(fake))
        again = (retained - target).square().mean()
        g = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        h = torch.autograd.grad(again, parameters, materialize_grads=True)
        return protected(clipped(g, 1.0), clipped(h, 1.0), method.share, method.rule)[0]

    return gradients, fake.detach()


def plain_doco(
    method: Any, plain: Plain, concepts: ConceptSet, parameters: list[Tensor]
) -> Callable[[], None]:
    """DoCo's step: images and sentences encoded, one graph for both losses, the frozen denoiser apart.

    Warm-up steps are the same, but that the denoiser stays. The images of anchors are noise here.
    """
    model, resolution = plain.model, method.sampler.resolution
    pairs = [pair for concept in concepts.erase.values() for pair in concept.sentence_pairs()]
    shape = model.latent_shape(resolution)
    pixels = torch.rand(method.images, 3, resolution, resolution, generator=plain.random)
    images = torch.randn(method.images, *shape, generator=plain.random)
    rate = min(method.discriminator_lr.values())
    with tempfile.TemporaryDirectory() as folder:
        opponent = Opponent.begin(images, rate, model.device, context_of(model, Path(folder)))
    adam = torch.optim.AdamW(parameters, lr=method.optimizer.lr)
    done = 0

    def step() -> None:
        nonlocal done
        size = method.batch_size
        chosen = torch.randint(len(images), (2 * size,), generator=plain.random)
        rows = (chosen % len(pairs)).tolist()
        t = torch.randint(len(model.alphas_cumprod), (2 * size,), generator=plain.random)
        noise = torch.randn(2 * size, *shape, generator=plain.random)
        with torch.no_grad():
            clean = model.encode_images(pixels[chosen])
            both = model.encode([pairs[i][k >= size] for k, i in enumerate(rows)])
            anchored = model.encode([pairs[i][1] for i in rows[:size]])
        x = model.add_noise(clean, noise, t)
        target = model.target(clean, noise, t)[size:]
        gradients, fake = doco_gradients(method, plain, opponent, x, t, both, target, parameters)
        if done >= method.warmup:
            apply(adam, parameters, gradients())
        original = plain.original(x[:size], t[:size], anchored)
        opponent.learn(model.denoised(x[:size], t[:size], original), fake, False)
        done += 1

    return step


PLAIN = {"esd": plain_esd, "advunlearn": plain_advunlearn, "doco": plain_doco}


def apply(adam: torch.optim.Optimizer, parameters: list[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """One step of the optimizer."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    adam.step()


def context_of(model: DiffusionModel, folder: Path) -> Context:
    """A context that keeps its work in ``folder`` and tells nobody."""
    return Context(seed=0, scratch=folder, log=lambda *_: None, progress=False, meter=Meter(model))


def prepared(name: str, unet: str, *overrides: str) -> tuple[Any, Any, ConceptSet]:
    """The model, the method with pocket's values, and nudity."""
    settings = [f"model.sampler.resolution={RESOLUTIONS[unet]}"]
    if unet == "mid":
        settings += ["method.batch_size=2", "model.sampler.batch_size=4"]
        settings += ["method.retain_batch_size=2"] if name == "advunlearn" else []
    config = configure(f"method={name}", "concept=nudity", "tracker=none", *settings, *overrides)
    model: Any = load_model(config.model)
    if unet == "mid":
        from diffusers import UNet2DConditionModel

        torch.manual_seed(0)
        own = dict(model.parts["unet"].config)
        own |= {
            "sample_size": 16,
            "block_out_channels": (128, 256, 512),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        }
        network: Any = UNet2DConditionModel.from_config(own)  # type: ignore[no-untyped-call]
        network.eval().requires_grad_(False)
        model = type(model)(
            model.folder, model.parts | {"unet": network}, model.tokenizer, model.scheduler_config
        )
    return model, config.method, config.concepts


def opened(model: DiffusionModel, method: Any) -> Any:
    """The parameters that the method trains, open."""
    names = method.trained(model) if hasattr(method, "trained") else method.parameters
    return select(model, names)


def ours(model: DiffusionModel, method: Any, concepts: ConceptSet) -> float:
    """Seconds of a training, with what it does beforehand."""
    with tempfile.TemporaryDirectory() as folder:
        context = context_of(model, Path(folder))
        if isinstance(method, DoCo):
            Anchors.draw(model, concepts, method.images, method.sampler, context)
        start = time.perf_counter()
        method.erase(model, concepts, context)
        return time.perf_counter() - start


def seconds(name: str, unet: str, steps: int) -> None:
    """Prints the seconds a step of both, over a training as long as configured."""
    model, method, concepts = prepared(name, unet)
    total = method.steps
    mine = ours(model, method, concepts) / total
    if share := getattr(method, "warmup", 0) / total:
        method = replace(method, warmup=round(share * steps))
    plain = Plain.copied(model)
    with opened(model, method) as selection:
        step = PLAIN[name](method, plain, concepts, list(selection.parameters.values()))
        start = time.perf_counter()
        for _ in range(steps):
            step()
        other = (time.perf_counter() - start) / steps
    print(
        f"{name:12} {unet:6} plain {1000 * other:8.1f} ms a step   ours {1000 * mine:8.1f} ms over {total} "
        f"steps   ratio {other / mine:5.2f}",
        flush=True,
    )


def memory(name: str, unet: str, recipe: str) -> None:
    """Prints the highest memory of a few steps above that of the loaded model."""
    # One latent a step, as the authors train; else activations hide what is compared.
    model, method, concepts = prepared(name, unet, "method.batch_size=1", "model.sampler.batch_size=1")
    weights = sum(p.numel() * 4 for p in model.parts["unet"].parameters()) / 2**20
    method = replace(method, steps=2)
    method = replace(method, warmup=0) if hasattr(method, "warmup") else method
    peak = Peak()
    if recipe == "ours":
        ours(model, method, concepts)
    else:
        plain = Plain.copied(model)
        with opened(model, method) as selection:
            step = PLAIN[name](method, plain, concepts, list(selection.parameters.values()))
            step()
            step()
    print(f"{peak.mib() + weights:.0f}")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--unet", choices=RESOLUTIONS, default="pocket")
    parser.add_argument("--steps", type=int, default=12, help="steps of the plain recipe that are timed")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--recipe", choices=("plain", "ours"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.recipe:
        memory(arguments.methods[0], arguments.unet, arguments.recipe)
        return
    for name in arguments.methods:
        if not arguments.memory:
            seconds(name, arguments.unet, arguments.steps)
            continue
        command = [
            sys.executable,
            "-m",
            "scripts.bench.training",
            "--methods",
            name,
            "--unet",
            arguments.unet,
        ]
        used = {
            recipe: float(subprocess.check_output([*command, "--recipe", recipe]).split()[-1])
            for recipe in ("plain", "ours")
        }
        print(
            f"{name:12} {arguments.unet:6} plain {used['plain']:.0f} MiB   ours {used['ours']:.0f} MiB   "
            f"ratio {used['ours'] / used['plain']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
