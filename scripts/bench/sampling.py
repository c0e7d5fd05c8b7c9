"""Images per second of our denoising loop and of diffusers' pipeline, on the same checkpoint in the same run.

    python -m scripts.bench.sampling FOLDER [--images 16] [--steps 20] [--resolution 64] [--rounds 3]

The two take turns, so that whatever else the machine does hits both; the best round of each counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Generator

from unlearn.models.families.sd import StableDiffusion
from unlearn.models.sampling import Sampler, draw


def main() -> None:
    arguments = parse()
    sampler = Sampler(
        scheduler="ddim",
        steps=arguments.steps,
        guidance=4.0,
        resolution=arguments.resolution,
        batch_size=arguments.images,
    )
    settings = StableDiffusion(
        world="pocket",
        source=arguments.source,
        revision=None,
        dtype="float32",
        clip="",
        inception="",
        sampler=sampler,
    )
    model = settings.load(arguments.device)
    pipe = pipeline(str(model.folder), arguments.device)
    prompts = [f"a photo of a cat and {i} dogs" for i in range(arguments.images)]
    seeds = list(range(arguments.images))

    def ours() -> torch.Tensor:
        return torch.cat(list(draw(model, prompts, seeds, sampler)))

    def theirs() -> torch.Tensor:
        generators = [Generator().manual_seed(seed) for seed in seeds]
        size = arguments.resolution
        settings = {"num_inference_steps": sampler.steps, "guidance_scale": sampler.guidance}
        return pipe(
            prompts, generator=generators, height=size, width=size, output_type="pt", **settings
        ).images.cpu()

    difference = (ours() - theirs()).abs().max().item()  # warms both up
    times = [(seconds(ours), seconds(theirs)) for _ in range(arguments.rounds)]
    our, their = (arguments.images / min(column) for column in zip(*times, strict=True))
    print(f"ours {our:.2f} images/s, diffusers {their:.2f} images/s, ratio {our / their:.3f}")
    print(
        f"{arguments.images} images of {sampler.resolution} px, {sampler.steps} DDIM steps, guidance 4, "
        f"{torch.get_num_threads()} threads on {arguments.device}; largest difference {difference:.1e}"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder, package:pocket or a hub id")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def pipeline(folder: str, device: str):  # noqa: ANN201 -- diffusers has no types
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).to(
        device
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seconds(function: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
