"""What a training step costs beside the plain recipe of the released scripts.

    python -m scripts.bench.training [--methods esd ...] [--unet pocket|mid] [--steps 3] [--memory]

The plain recipe, written out below, holds a second, frozen denoiser, calls it and the trained one apart for
each prediction, and draws the latents of every step, attack steps too, by a trajectory of their own from
noise to a random timestep. Both train the same parameters on batches of the same size, with pocket's values.
What ours draws once before training is shared out over all steps that are configured: its cost is taken from
two runs of different length. ``mid`` is a random denoiser of 50 million parameters on 32 by 32 latents.

With ``--memory`` each trains two steps of one latent in a process of its own; printed is the highest memory
above that of the loaded model, plus the denoiser's weights: text encoder, data and libraries are in neither.
"""

from __future__ import annotations

import argparse
import copy
import resource
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

from unlearn.api import configure, load_model
from unlearn.concepts import ConceptSet
from unlearn.methods.discriminator import Opponent, unrecognised
from unlearn.methods.method import Context, Meter, Method
from unlearn.methods.surgery import clipped, protected
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.parameters import select

METHODS = ("esd", "advunlearn", "doco")
RESOLUTIONS = {"pocket": 64, "mid": 256}


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

    def step() -> None:
        rows = torch.randint(len(sentences), (method.batch_size,), generator=plain.random)
        own = slots[rows]

        def attacked(_step: int, perturbation: Tensor) -> Tensor:
            latents, t = plain.drawn(concept[rows.tolist()], empty, method.sampler)
            wanted = plain.original(latents, t, concept[rows.tolist()])
            embedded = model.encode_embeddings(attack.embed(model, own, perturbation))
            return (model.predict(latents, t, embedded) - wanted).square().mean()

        perturbation, _ = attack.search(attack.begin(model, own, None, plain.random), attacked)
        latents, t = plain.drawn(concept[rows.tolist()], empty, method.sampler)
        asked = plain.original(latents, t, concept[rows.tolist()])
        nothing = plain.original(latents, t, empty.repeat(len(latents)))
        target = nothing - method.negative_guidance * (asked - nothing)
        embedded = model.encode_embeddings(attack.embed(model, own, perturbation.detach()))
        loss = (model.predict(latents, t, embedded) - target).square().mean()
        chosen = torch.randint(len(kept), (method.retain_batch_size,), generator=plain.random).tolist()
        latents, t = plain.drawn(captions[chosen], empty, method.sampler)
        wanted = plain.original(latents, t, captions[chosen])
        again = model.predict(latents, t, model.encode([kept[i] for i in chosen]))
        loss = loss + gamma * (again - wanted).square().mean()
        apply(adam, parameters, torch.autograd.grad(loss, parameters, allow_unused=True))

    return step


def plain_doco(
    method: Any, plain: Plain, concepts: ConceptSet, parameters: list[Tensor]
) -> Callable[[], None]:
    """DoCo's step: one graph for both losses, and the frozen denoiser apart; warm-up steps are the same.

    The images of anchors are drawn beforehand by both recipes, and stand for noise here.
    """
    model = plain.model
    pairs = [pair for concept in concepts.erase.values() for pair in concept.sentence_pairs()]
    with torch.no_grad():
        erased, anchored = model.encode([old for old, _ in pairs]), model.encode([new for _, new in pairs])
    shape = model.latent_shape(method.sampler.resolution)
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
        x = model.add_noise(images[chosen], noise, t)
        both = Conditioning.cat([erased[rows[:size]], anchored[rows[size:]]])
        forgotten, retained = model.predict(x, t, both).chunk(2)
        original = plain.original(x[:size], t[:size], anchored[rows[:size]])
        fake = model.denoised(x[:size], t[:size], forgotten)
        if done >= method.warmup:
            loss = unrecognised(opponent.network(fake))
            again = (retained - model.target(images[chosen], noise, t)[size:]).square().mean()
            g = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
            h = torch.autograd.grad(again, parameters, materialize_grads=True)
            apply(adam, parameters, protected(clipped(g, 1.0), clipped(h, 1.0), method.share, method.rule)[0])
        opponent.learn(model.denoised(x[:size], t[:size], original), fake.detach(), False)
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


def prepared(name: str, unet: str, *overrides: str) -> tuple[DiffusionModel, Method, ConceptSet]:
    """The model, the method with pocket's values, and nudity."""
    resolution = f"model.sampler.resolution={RESOLUTIONS[unet]}"
    config = configure(f"method={name}", "concept=nudity", "tracker=none", resolution, *overrides)
    model = load_model(config.model)
    if unet == "mid":
        from diffusers import UNet2DConditionModel

        torch.manual_seed(0)
        own = dict(model.parts["unet"].config)
        own |= {
            "sample_size": 32,
            "block_out_channels": (128, 256, 512),
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        }
        network = UNet2DConditionModel.from_config(own).eval().requires_grad_(False)
        model = type(model)(
            model.folder, model.parts | {"unet": network}, model.tokenizer, model.scheduler_config
        )
    return model, config.method, config.concepts


def opened(model: DiffusionModel, method: Any) -> Any:
    """The parameters that the method trains, open."""
    names = method.trained(model) if hasattr(method, "trained") else method.parameters
    return select(model, names)


def ours(model: DiffusionModel, method: Any, concepts: ConceptSet, steps: int) -> float:
    """Seconds of a training of so many steps, with what it does beforehand."""
    short = replace(method, steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        short.erase(model, concepts, context_of(model, Path(folder)))
        return time.perf_counter() - start


def seconds(name: str, unet: str, steps: int) -> None:
    """Prints the seconds a step of both, over a training as long as configured."""
    model, method, concepts = prepared(name, unet)
    total = method.steps  # type: ignore[attr-defined]
    # Warm-up is a part of the training that costs less: both recipes take their share of it.
    share = getattr(method, "warmup", 0) / total
    few, many = steps, 3 * steps
    if share:
        method = replace(method, warmup=0)  # type: ignore[type-var]
    one, three = ours(model, method, concepts, few), ours(model, method, concepts, many)
    each = (three - one) / (many - few)
    before = one - few * each
    plain = Plain.copied(model)
    with opened(model, method) as selection:
        step = PLAIN[name](method, plain, concepts, list(selection.parameters.values()))
        step()
        start = time.perf_counter()
        for _ in range(many):
            step()
        other = (time.perf_counter() - start) / many
    mine = each + max(before, 0.0) / total
    print(
        f"{name:12} {unet:6} plain {1000 * other:8.1f} ms a step   ours {1000 * mine:8.1f} ms "
        f"({1000 * each:.1f} and {before:.1f} s beforehand over {total} steps)   ratio {other / mine:5.2f}",
        flush=True,
    )


def highest() -> float:
    """Highest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(name: str, unet: str, recipe: str) -> None:
    """Prints the highest memory of a few steps above that of the loaded model."""
    # One latent a step, as the authors train; else activations hide what is compared.
    model, method, concepts = prepared(name, unet, "method.batch_size=1", "model.sampler.batch_size=1")
    weights = sum(p.numel() * 4 for p in model.parts["unet"].parameters()) / 2**20
    method = replace(method, warmup=0) if hasattr(method, "warmup") else method  # type: ignore[type-var]
    before = highest()
    if recipe == "ours":
        ours(model, method, concepts, 2)
    else:
        plain = Plain.copied(model)
        with opened(model, method) as selection:
            step = PLAIN[name](method, plain, concepts, list(selection.parameters.values()))
            step()
            step()
    print(f"{highest() - before + weights:.0f}")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--unet", choices=RESOLUTIONS, default="pocket")
    parser.add_argument("--steps", type=int, default=3)
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
