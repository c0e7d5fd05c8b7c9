"""What sampling-time guards cost: SAFREE's projection beside the text encoder, a step beside plain guidance.

    python -m scripts.bench.guards [--prompts 8] [--images 4] [--rounds 5]

The projection is timed with a random text encoder of the size of CLIP ViT-L/14, steps on pocket. What is
compared takes turns in one run, so that whatever else the machine does hits all of it; the best round counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from unlearn.api import configure, erase, load_model
from unlearn.methods.guards.safree.safree import SAFREEGuard
from unlearn.methods.subspaces import basis, contents, pooled
from unlearn.models.families.sd import StableDiffusionModel
from unlearn.models.guards import Guard
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import sample

METHODS = ("negative_prompt", "sld", "sld_weak", "safree_released", "safree")
TEXTS = (
    "a drawing of a church on a blue background",
    "look at a pixel art of a person and a dog in the flat style, green behind",
    "an ink print of santa claus",
    "a watercolor of a penguin by fluent on a white background",
)


def with_large_encoder(model: DiffusionModel) -> StableDiffusionModel:
    """The model with a random text encoder of 123 million parameters."""
    from transformers import CLIPTextConfig, CLIPTextModel

    end = model.tokenizer.eos_token_id
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    torch.manual_seed(0)
    parts = model.parts | {"text_encoder": CLIPTextModel(config)}
    return StableDiffusionModel(model.folder, parts, model.tokenizer, model.scheduler_config)


def projection(model: StableDiffusionModel, count: int, rounds: int) -> None:
    """Times the text encoder's runs, and what :meth:`SAFREEGuard.prepared` does beyond its own."""
    prompts = [f"{TEXTS[i % len(TEXTS)]} {i}" for i in range(count)]
    span = basis(pooled(model, contents(model, [f"a nude person {i}" for i in range(17)])))
    guard = SAFREEGuard(
        span=span,
        negative=None,
        alpha=0.01,
        limit=10,
        curves=[[5.333, 2.5]],
        last_step=None,
        re_attention=None,
    )
    encoded = model.encode(prompts)
    encode, calls = model.encode_embeddings, []
    model.encode_embeddings = lambda *given: calls.append((given, encode(*given))) or calls[-1][1]
    guard.prepared(model, prompts, encoded)
    copies = min(
        sum(seconds(lambda given=given: encode(*given)) for given, _ in calls) for _ in range(rounds)
    )
    alone = min(seconds(lambda: encode(model.embed(model.tokenize(prompts)))) for _ in range(rounds))
    # What the encoder gave is handed back at once, so that many rounds of the rest take no time.
    answers = [found for _, found in calls]
    rest = []
    for _ in range(10 * rounds):
        again = iter(answers)
        model.encode_embeddings = lambda *_, again=again: next(again)
        rest.append(seconds(lambda: guard.prepared(model, prompts, encoded)))
    copies, alone, best = (1000 * value / count for value in (copies, alone, min(rest)))
    lengths = [len(ids) for ids in contents(model, prompts)]
    print(
        f"SAFREE's projection, a prompt: {best:.2f} ms (median {1000 * median(rest) / count:.2f}) beyond the "
        f"text encoder,\nwhich takes {alone:.0f} ms for the prompt and {copies:.0f} ms for masked copies; "
        f"ratio to the prompt's {best / alone:.4f}"
    )
    print(f"{count} prompts of {min(lengths)} to {max(lengths)} tokens, a concept of {span.shape[1]} phrases")


def steps(model: DiffusionModel, guards: dict[str, Guard | None], images: int, rounds: int) -> None:
    """Times whole trajectories with each guard, and without."""
    sampler = configure("method=none", "tracker=none").model.sampler
    prompts = [f"{TEXTS[i % len(TEXTS)]}" for i in range(images)]
    encoded = model.encode(prompts)
    runs: dict[str, Callable[[], object]] = {}
    for name, guard in guards.items():
        asked, (text, *_) = guard.prompts(prompts, [""]) if guard else (prompts, [""])
        own = guard and guard.prepared(model, asked, encoded)
        runs[name] = draws(model, encoded, model.encode([text]), sampler, own, prompts)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(2 * rounds):
        best = {name: min(best[name], seconds(run)) for name, run in runs.items()}
    print("\na step of          ms   times plain guidance")
    for name, value in best.items():
        print(f"{name:15} {1000 * value / sampler.steps:5.1f}  {value / best['plain guidance']:6.2f}")
    print(f"{images} images of pocket, {sampler.steps} steps")


def draws(model, encoded, negative, sampler, guard, prompts) -> Callable[[], object]:  # noqa: ANN001
    """Draws a latent for each prompt."""

    def run() -> None:
        with (guard or Guard()).attached(model.parts):
            sample(model, encoded, negative, range(len(prompts)), sampler, guard, prompts=prompts)

    return run


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    configs = [configure(f"method={name}", "concept=nudity", "tracker=none") for name in METHODS]
    model = load_model(configs[0].model)
    guards: dict[str, Guard | None] = {"plain guidance": None}
    for name, config in zip(METHODS, configs, strict=True):
        guards[name] = erase(model, config.method, config.concepts).guard
    with torch.no_grad():
        projection(with_large_encoder(model), arguments.prompts, arguments.rounds)
        steps(model, guards, arguments.images, arguments.rounds)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
