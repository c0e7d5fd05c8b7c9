"""What it costs to erase many concepts, at the size of SD 1.4: at once, and one after another.

Weights and token embeddings are random; the text encoder's time is left out. Everything else is what the
methods do. One after another means that each concept is erased from what the one before left: maps multiply
and are applied once, fused weights are the next fusion's originals.

Damage is the change of what the projections make of the retained texts, relative to what they made of them.
The memory is beyond the weights, and has the embeddings of all texts of 77 tokens in it.

    python -m scripts.bench.multi_concept [--counts 1 10 100] [--only uce ...]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import cast

import torch
from torch import Tensor

from scripts.bench.closed_form import CHANNELS, LENGTH, WIDTH
from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.methods.closed_form.mace.fusion import Adapter, Kept, fused
from unlearn.methods.closed_form.rece import RECE, Hardening
from unlearn.methods.closed_form.solver import TextRows, condensed, gram
from unlearn.methods.closed_form.uce import UCE
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.weights.maps import apply_map

METHODS = ["uce", "uce_2023", "rece", "mace"]
RETAINED, MANY_RETAINED = 100, 1000
SENTENCES = 30

UCE_2025 = UCE(
    parameters=[],
    tokens="last",
    technique="replace",
    templates=["{}"],
    retain_empty=False,
    erase_scale=1.0,
    preserve_scale=1.0,
    ridge=0.5,
)
UCE_2023 = replace(UCE_2025, tokens="window", retain_empty=True, preserve_scale=None)
NUDITY = RECE(
    parameters=[],
    start=UCE_2023,
    kinds={},
    epochs=3,
    mu=0.1,
    embedding="close_regzero",
    retain_empty=True,
    erase_scale=1.0,
    preserve_scale=0.1,
    ridge=0.1,
)


class Texts:
    """Stands for a model of which only the text encoder is asked: random rows for every text.

    Rows of all texts share a direction, as CLIP's do, those of one text another one, and all after the end
    token are nearly the same.
    """

    device = torch.device("cpu")
    tokenizer = SimpleNamespace(eos_token_id=1)

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.shared = 0.7 * torch.randn(LENGTH, WIDTH, generator=random)
        self.own = 0.5 * torch.randn(256, WIDTH, generator=random)
        self.noise = 0.4 * torch.randn(64, LENGTH, WIDTH, generator=random)
        self.noise[:, 8:] *= 0.1
        self.seconds = 0.0

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        ids = torch.zeros(len(texts), LENGTH, dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, 1 + len(text.split()) :] = 1
        return ids

    def encode(self, texts: Sequence[str]) -> Conditioning:
        begin = time.perf_counter()
        rows = []
        for text in texts:
            number = zlib.crc32(text.encode())
            # Two of 256 directions: more texts than directions, none like another.
            direction = self.own[number % 256] + self.own[number // 256 % 256]
            rows.append(self.shared + direction + self.noise[number // 65536 % 64])
        encoded = Conditioning(torch.stack(rows))
        self.seconds += time.perf_counter() - begin
        return encoded


def concepts(numbers: range, retained: int) -> ConceptSet:
    """Concepts with a phrase each, the first of which retains ``retained`` texts."""
    return ConceptSet(
        erase={
            f"{i}": Concept(
                kind="object",
                phrases=[f"concept {i}"],
                anchor=f"anchor {i % 7}",
                retain=[f"kept {k}" for k in range(retained)] if i == numbers[0] else [],
                prompts=None,
                detector="",
                labels=["x"],
            )
            for i in numbers
        }
    )


@dataclass
class Bench:
    """One way of erasing on one set of weights."""

    weights: list[Tensor]
    texts: Texts
    retained: int

    @property
    def model(self) -> DiffusionModel:
        return cast(DiffusionModel, self.texts)

    def uce(self, method: UCE, parts: list[range]) -> list[Tensor]:
        matrix = torch.eye(WIDTH, dtype=torch.float64)
        for numbers in parts:
            chosen = concepts(numbers, self.retained)
            rows, solution = method.solved(TextRows.encode(self.model, method.texts(chosen)), chosen)
            matrix = matrix @ solution.map(rows.erased, rows.targets)
        return self.mapped(matrix)

    def rece(self, parts: list[range]) -> list[Tensor]:
        matrix = torch.eye(WIDTH, dtype=torch.float64)
        original = gram(*self.weights)
        for numbers in parts:
            chosen = concepts(numbers, self.retained)
            plans = {name: Hardening(epochs=3, mu=0.1) for name in chosen.erase}
            step, _ = NUDITY.found(self.model, chosen, plans, original)
            matrix, original = matrix @ step, step.T @ original @ step
        return self.mapped(matrix)

    def mace(self, parts: list[range]) -> list[Tensor]:
        """Fusion alone, of additions of rank 1; the refinement is one small edit more."""
        identity = torch.eye(WIDTH, dtype=torch.float64)
        prior = gram(*(self.texts.encode([f"kept {k}"]).tokens[0] for k in range(self.retained)))
        weights = self.weights
        for numbers in parts:
            rows = (
                self.texts.encode([f"concept {i} in sentence {k}" for k in range(SENTENCES)]).tokens.flatten(
                    0, 1
                )
                for i in numbers
            )
            adapters = [adapter(i) for i in numbers]
            weights, _ = fused(weights, identity, adapters, rows, Kept(prior, 1.0, 0.0, 1e-6))
        return weights

    def mapped(self, matrix: Tensor) -> list[Tensor]:
        apply_map(self.weights, matrix)
        return self.weights


def adapter(number: int) -> Adapter:
    random = torch.Generator().manual_seed(number)
    down = [torch.randn(1, WIDTH, generator=random) for _ in range(2 * len(CHANNELS))]
    up = [0.001 * torch.randn(o, 1, generator=random) for o in CHANNELS for _ in "kv"]
    return Adapter(down, up)


def damage(weights: list[Tensor], before: list[Tensor], texts: Texts, retained: int) -> float:
    """Relative change of the outputs on the retained texts."""
    rows = condensed([texts.encode([f"kept {k}"]).tokens[0] for k in range(retained)]).float()
    pairs = list(zip(weights, before, strict=True))
    moved = sum(float((rows @ (new - old).T).square().sum()) for new, old in pairs)
    whole = sum(float((rows @ old.T).square().sum()) for _, old in pairs)
    return (moved / whole) ** 0.5


def measure(name: str, order: str, count: int, retained: int) -> dict[str, float]:
    """Seconds, MiB beyond the weights, and damage."""
    random = torch.Generator().manual_seed(0)
    before = [torch.randn(o, WIDTH, generator=random) * 0.03 for o in CHANNELS for _ in "kv"]
    texts = Texts()
    bench = Bench([weight.clone() for weight in before], texts, retained)
    parts = [range(count)] if order == "at once" else [range(i, i + 1) for i in range(count)]
    start, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if name == "rece":
        weights = bench.rece(parts)
    elif name == "mace":
        weights = bench.mace(parts)
    else:
        weights = bench.uce(UCE_2025 if name == "uce" else UCE_2023, parts)
    seconds = time.perf_counter() - begin - texts.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "mib": (peak - start) / 1024,
        "damage": damage(weights, before, texts, retained),
    }


def main() -> None:
    """Measures each case in a process of its own, so that their peaks do not mix."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--only", nargs="+", default=METHODS, choices=METHODS)
    arguments = parser.parse_args()
    jobs = [
        (name, order, count, RETAINED)
        for name in arguments.only
        for order in ("at once", "one by one")
        for count in arguments.counts
    ]
    jobs += [(name, "at once", max(arguments.counts), MANY_RETAINED) for name in arguments.only]
    print(f"{'method':9} {'erased':>6} {'retained':>8} {'order':10} {'seconds':>8} {'MiB':>6} {'damage':>8}")
    for name, order, count, retained in jobs:
        process = subprocess.run(
            [sys.executable, "-m", "scripts.bench.multi_concept", name, order, str(count), str(retained)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        row = json.loads(process.stdout)
        print(
            f"{name:9} {count:6} {retained:8} {order:10} {row['seconds']:8.2f} {row['mib']:6.0f} "
            f"{row['damage']:8.4f}",
            flush=True,
        )
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in METHODS:
        with torch.no_grad():
            print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main()
