"""A RECE edit of nudity, three epochs, at the size of SD 1.4, against the same edit layer by layer.

Weights and token embeddings are random; what is timed is the edit alone, with all of them in memory. The
plain recipe does for each of the 32 projections in every epoch what the equations say: sums over keys and
values, the inverse, the product; in float32 and without waste such as the released code's, which computes
every layer's values once for each layer. One map for all layers needs one Gram matrix of the original
projections (29.4 GFLOP, of which symmetry leaves 18.4), one product in the end (29.4 GFLOP) and between them
small systems.

    python -m scripts.bench.closed_form
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from unlearn.methods.closed_form.rece import Layers, revive
from unlearn.methods.closed_form.solver import gram, solve
from unlearn.models.weights.maps import apply_map

WIDTH, LENGTH = 768, 77
CHANNELS = [320] * 5 + [640] * 5 + [1280] * 6  # of the 16 cross-attentions; keys and values each
EPOCHS, MU, RIDGE, PRESERVE = 3, 0.1, 0.1, 0.1
START_RIDGE, START_PRESERVE = 0.5, 1.0
REPEATS = 3


def inputs() -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Projections, and the token rows of the concept, of its anchor and of what is retained."""
    random = torch.Generator().manual_seed(0)
    weights = [torch.randn(o, WIDTH, generator=random) * 0.03 for o in CHANNELS for _ in "kv"]
    # Rows of one text share a direction, as CLIP's do, which makes the systems ill-conditioned.
    shared = torch.randn(1, WIDTH, generator=random)
    texts = [(shared + torch.randn(LENGTH, WIDTH, generator=random)) * 0.7 for _ in "cn"]
    return weights, texts[0], texts[1], texts[1]


def one_map(weights: list[Tensor], concept: Tensor, anchor: Tensor, retained: Tensor) -> None:
    """What ``method=rece`` does."""
    layers = Layers.unedited(gram(*weights))
    start = solve(concept[1:], retained, erase_scale=1.0, preserve_scale=START_PRESERVE, ridge=START_RIDGE)
    layers = layers.edit(anchor[1:].double() - concept[1:].double(), start.readout)
    for _ in range(EPOCHS):
        found = revive(concept.double(), anchor.double(), layers, MU)
        solution = solve(found, retained, erase_scale=1.0, preserve_scale=PRESERVE, ridge=RIDGE)
        layers = layers.edit(anchor.double() - found, solution.readout)
    apply_map(weights, layers.matrix)


def layer_by_layer(weights: list[Tensor], concept: Tensor, anchor: Tensor, retained: Tensor) -> None:
    """The same edit as it is written down."""
    originals = [weight.clone() for weight in weights]

    def edit(erased: Tensor, targets: Tensor, preserve: float, ridge: float) -> None:
        for i, weight in enumerate(weights):
            values, kept = targets @ weight.T, retained @ weight.T
            left = ridge * weight + values.T @ erased + preserve * kept.T @ retained
            right = ridge * torch.eye(WIDTH) + erased.T @ erased + preserve * retained.T @ retained
            weights[i] = left @ torch.inverse(right)

    edit(concept[1:], anchor[1:], START_PRESERVE, START_RIDGE)
    for _ in range(EPOCHS):
        left, right = MU * torch.eye(WIDTH), torch.zeros(WIDTH, WIDTH)
        for weight, original in zip(weights, originals, strict=True):
            left += weight.T @ weight
            right += weight.T @ original
        edit(concept @ (torch.inverse(left) @ right).T, anchor, PRESERVE, RIDGE)


RECIPES: dict[str, Callable[[list[Tensor], Tensor, Tensor, Tensor], None]] = {
    "one map": one_map,
    "layer by layer": layer_by_layer,
}


def measure(name: str) -> dict[str, float]:
    """Best seconds of a few edits, and the MiB that they took beyond their inputs."""
    weights, *texts = inputs()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(REPEATS):
        copies = [weight.clone() for weight in weights]
        begin = time.perf_counter()
        RECIPES[name](copies, *texts)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": min(seconds), "mib": (peak - before) / 1024}


def main() -> None:
    """Measures each recipe in a process of its own, so that their peaks do not mix."""
    found: dict[str, dict[str, float]] = {}
    for name in RECIPES:
        process = subprocess.run(
            [sys.executable, "-m", "scripts.bench.closed_form", name],
            check=True,
            capture_output=True,
            text=True,
        )
        found[name] = json.loads(process.stdout)
        print(
            f"{name:15} {found[name]['seconds']:8.2f} s {found[name]['mib']:8.0f} MiB beyond its inputs",
            flush=True,
        )
    print(f"{'ratio':15} {found['layer by layer']['seconds'] / found['one map']['seconds']:8.1f}")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        main()
