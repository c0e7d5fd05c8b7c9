"""How many prompts an hour are attacked, beside a loop over single prompts.

    python -m scripts.bench.attacks [--attacks unlearndiffatk p4d ...] [--prompts 32] [--plain 6]

The victim is pocket after UCE of 2023 for nudity. The plain loop, written out below, takes one prompt at a
time as the released scripts do: in each step the prompt is tokenised and embedded anew and, for P4D, a copy
of the original denoiser is asked anew; all images are drawn one by one, those that are looked at with a
forward pass for each branch. It searches as ours does, with the same random numbers, and ends where the
concept shows, so that budget and success are the same; of how many prompts it was timed is printed, and its
time for all follows from the forwards that ours spent on these and on all. The plain loops of Ring-A-Bell and
MMA encode one candidate at a time.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearn.api import configure, erase, load_model
from unlearn.attacks.attack import Target
from unlearn.attacks.gradient.attempts import Attempt
from unlearn.attacks.gradient.gradient_attack import GradientAttack
from unlearn.attacks.gradient.noise_matching import Case
from unlearn.attacks.layout import Layout
from unlearn.attacks.spaces import stable_words
from unlearn.concepts.concept import PromptSet
from unlearn.models.model import Conditioning
from unlearn.seeding import generator

ATTACKS = ("unlearndiffatk", "p4d", "ringabell", "mma")


def victim() -> tuple[Target, Any]:
    """The erased model, and the configuration that its attacks come from."""
    attacks = [f"+attack@eval.attacks.{name}={name}" for name in ATTACKS]
    config = configure("method=uce_2023", "concept=nudity", "eval=standard", "tracker=none", *attacks)
    model = load_model(config.model)
    erasure = erase(model, config.method, config.concepts)
    judges = {
        name: config.eval.detectors[concept.detector] for name, concept in config.concepts.erase.items()
    }
    return Target(model, erasure, config.concepts, judges, config.model.sampler), config


@torch.no_grad()
def drawn(target: Target, model: Any, text: str, seed: int) -> Tensor:
    """One image, with a forward pass for each branch of each step."""
    sampler = target.sampler
    scheduler = model.scheduler(sampler.scheduler, sampler.steps)
    shape = model.latent_shape(sampler.resolution)
    latents = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
    latents = latents * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        empty, asked = model.encode([""]), model.encode([text])
        scaled = scheduler.scale_model_input(latents, t)
        nothing, positive = (model.predict(scaled, t.reshape(1), each) for each in (empty, asked))
        guided = nothing + sampler.guidance * (positive - nothing)
        latents = scheduler.step(guided, t, latents, return_dict=False)[0]
    found: Tensor = model.decode(latents)
    return found


def one(attack: GradientAttack, target: Target, case: Case) -> bool:
    """Attacks a single prompt."""
    original = copy.deepcopy(target.model.parts["unet"])
    alone = replace(target, sampler=replace(target.sampler, batch_size=1))
    bank = replace(attack.objective, against="noise").bank(alone, [case], attack.looks, attack.steps)
    reference = attack.objective.against == "original"
    draws, together = attack.objective.draws, attack.objective.together
    with target.erased() as model:
        vocabulary = stable_words(target)
        with torch.no_grad():
            table = model.embed(vocabulary[None])[0]
        count = len(Layout.of(target, attack.space, case.prompt).places)
        tokens = attack.search.start(table, count, [generator(case.seed, "search")])
        own = Attempt(case.prompt, tokens.best(), 0)
        for look in range(attack.looks):
            for step in range(look * attack.steps, (look + 1) * attack.steps):
                layout = Layout.of(target, attack.space, case.prompt)
                tried = tokens.tried()
                added = table[tried].requires_grad_()
                embeddings = torch.index_put(
                    layout.embeddings[None], (torch.zeros(1, 1).long(), layout.places[None]), added
                )
                conditioning = model.encode_embeddings(embeddings, torch.tensor([layout.end]))
                losses = []
                for number in range(step * together, (step + 1) * together):
                    latents, t, noise = bank.noisy(number if draws is None else number % draws)
                    wanted = model.target(bank.clean, noise, t)
                    if reference:
                        wanted = predicted(original, target, latents, t, case.prompt)
                    losses.append((model.predict(latents, t, conditioning) - wanted).square().mean())
                loss = torch.stack(losses).mean()
                (gradient,) = torch.autograd.grad(loss, added)
                own.note(tried[0].tolist(), loss.item())
                with torch.no_grad():
                    tokens.step(gradient)
            chosen = torch.tensor(own.choice(tokens.best()[0].tolist(), attack.choose))
            text = attack.space.text(target, case.prompt, vocabulary[chosen])
            # Those that confirm a success are drawn only if there is one.
            if all(
                bool(target.judge(drawn(target, model, text, seed), case.concept)[0]) for seed in case.images
            ):
                return True
    return False


@torch.no_grad()
def predicted(denoiser: Any, target: Target, latents: Tensor, t: Tensor, prompt: str) -> Tensor:
    """What a denoiser predicts for a prompt."""
    conditioning: Conditioning = target.model.encode([prompt])
    found: Tensor = denoiser(latents, t, encoder_hidden_states=conditioning.tokens, return_dict=False)[0]
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def gradient_attack(name: str, attack: GradientAttack, target: Target, plain: PromptSet, few: int) -> None:
    """Prints both."""
    ours, found = timed(lambda: attack.attack(target, plain, generator(0)))
    every = attack.cases(plain, generator(0))
    chosen = [i * len(every) // few for i in range(few)]
    theirs, shown = timed(lambda: [one(attack, target, every[i]) for i in chosen])
    # These prompts may need more or less than all do on average.
    share = sum(found.forwards) / len(every) / (sum(found.forwards[i] for i in chosen) / few)
    report(name, ours / len(plain), share * theirs / few, len(plain), few)
    own = [found.found[i] for i in chosen]
    agreed = sum(a == b for a, b in zip(own, shown, strict=True))
    print(
        f"{'':16} shown by the attack's own images: {sum(own)} of {few}, plain {sum(shown)} of {few} (the "
        f"same for {agreed}); {sum(found.found)} of all {len(plain)}",
        flush=True,
    )


def text_attack(name: str, attack: Any, target: Target, plain: PromptSet, few: int) -> None:
    """Prints both: a population at a time, and a candidate at a time."""
    ours, _ = timed(lambda: attack.guess(target, plain, generator(0)))
    single = replace(attack, batch_size=1)
    theirs, _ = timed(lambda: single.guess(target, plain.limited(few), generator(0)))
    report(name, ours / len(plain), theirs / few, len(plain), few)


def report(name: str, ours: float, theirs: float, many: int, few: int) -> None:
    """Prints seconds a prompt and their ratio."""
    print(
        f"{name:16} plain {theirs:7.2f} s a prompt ({few})   ours {ours:7.2f} s ({many}, "
        f"{3600 / ours:,.0f} an hour)   ratio {theirs / ours:5.2f}",
        flush=True,
    )


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=ATTACKS)
    parser.add_argument("--prompts", type=int, default=32, help="prompts of ours")
    parser.add_argument("--plain", type=int, default=6, help="prompts of the plain loop")
    parser.add_argument("--batch", type=int, default=32, help="prompts that ours takes together")
    arguments = parser.parse_args()
    target, config = victim()
    plain = config.concepts.prompt_set("plain", config.paths.prompts).limited(arguments.prompts)
    for name in arguments.attacks:
        attack = replace(config.eval.attacks[name], prompts=len(plain))
        if isinstance(attack, GradientAttack):
            attack = replace(attack, batch_size=arguments.batch)
            gradient_attack(name, attack, target, plain, arguments.plain)
        else:
            text_attack(name, attack, target, plain, 1)


if __name__ == "__main__":
    main()
