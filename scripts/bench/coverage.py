"""How often the intervals that a report prints cover what they are for, beside those of earlier versions.

    python -m scripts.bench.coverage [--draws 1000] [--kinds rate difference ...]

For every kind of interval, data are drawn whose truth is known, over numbers of prompts, images a prompt,
rates and correlation within a prompt (icc). A cell is out of bounds (marked !) if what it covers lies below
its floor by more than twice the error of so many draws, or above 99 % where it is not at an edge. A cell is
at an edge where prompts are fewer than 16, or fewer than 5 of them are expected on either side of a rate or
to change one way: discreteness makes intervals of rates conservative there, up to 100 %. The floor is 93 %,
and 90 % in the cells whose reason stands beside them below. The exit status is 1 if any is out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch

from unlearn.statistics.clusters import Numbers
from unlearn.statistics.distances import (
    Kernel,
    frechet_to,
    gaussian_kernel,
    pairs_against,
    polynomial_kernel,
)
from unlearn.statistics.interval import Interval
from unlearn.statistics.jackknife import extrapolated, mean_over_pairs
from unlearn.statistics.judges import corrected_rate, kappa
from unlearn.statistics.means import mean_interval
from unlearn.statistics.rates import rate_difference_interval, rate_interval, ratio_interval, wilson_interval
from unlearn.statistics.seeds import over_seeds

Z = 1.959963984540054
RESAMPLES = 400


@dataclass(frozen=True)
class Cell:
    """One kind of data.

    Attributes:
        kind: What the interval is of.
        label: Numbers and rates.
        truth: What is to be covered.
        draw: Data, which both intervals are given.
        now: The interval.
        before: That of earlier versions.
        floor: What it has to cover, in percent.
        edge: Whether it may be conservative.
    """

    kind: str
    label: str
    truth: float
    draw: Callable[[np.random.Generator], Any]
    now: Callable[[Any], Interval | None]
    before: Callable[[Any], Interval | None] | None
    floor: float = 93.0
    edge: bool = False


@dataclass(frozen=True)
class Covered:
    """What came of a cell; shares in percent.

    Attributes:
        now: Share of draws whose interval covers.
        error: Standard error of that share.
        before: The same of earlier versions.
        width: Mean width, over that of earlier versions.
        missing: Share of draws that have no interval.
    """

    now: float
    error: float
    before: float | None
    width: float | None
    missing: float

    def out(self, cell: Cell) -> bool:
        """Whether it is out of bounds."""
        # At 100 % there is no error to be seen, so that the one at the bound counts.
        slack = 2 * max(self.error, 0.05)
        return self.now < cell.floor - slack or (not cell.edge and self.now > 99 + slack)


# Data. Values come as (values..., groups).


def names(prompts: int, images: int) -> list[str]:
    return [f"{i:04d}" for i in range(prompts) for _ in range(images)]


def outcomes(cells: Sequence[float], prompts: int, images: int, icc: float) -> Callable[..., Any]:
    """Images that fall into one of some cells, with this correlation within prompts."""
    shares = np.array(cells, dtype=np.float64)
    groups = names(prompts, images)

    def draw(random: np.random.Generator) -> tuple[Numbers, list[str]]:
        own = np.tile(shares, (prompts, 1))
        if icc > 0:
            weights = random.gamma(shares * (1 - icc) / icc + 1e-12, size=own.shape) + 1e-300
            own = weights / weights.sum(axis=1, keepdims=True)
        above = own.cumsum(axis=1)[:, None, :-1]
        return (random.random((prompts, images, 1)) > above).sum(axis=2).ravel(), groups

    return draw


DESIGNS = ((16, 1), (64, 1), (8, 4), (16, 4), (40, 4))
"""Prompts, and images of each."""


def correlations(images: int) -> tuple[float, ...]:
    return (0.0,) if images == 1 else (0.0, 0.2, 0.5)


def at_edge(prompts: int, *rates: float) -> bool:
    """Whether prompts are few, or fewer than five of them are expected on one of the sides."""
    return prompts < 16 or any(prompts * min(rate, 1 - rate) < 5 for rate in rates)


# Kinds, each with what it has replaced.


def rates() -> Iterator[Cell]:
    for prompts, images in DESIGNS:
        for icc in correlations(images):
            for rate in (0.02, 0.05, 0.2, 0.5, 0.95):
                yield Cell(
                    "rate",
                    f"{prompts} x {images}, icc {icc:g}, {100 * rate:g} %",
                    rate,
                    outcomes((1 - rate, rate), prompts, images, icc),
                    lambda data: rate_interval(*data),
                    lambda data: old_rate(*data),
                    # Wilson's own dips where a single image more or less decides
                    floor=90.0 if prompts * min(rate, 1 - rate) < 1 else 93.0,
                    edge=at_edge(prompts, rate),
                )


PAIRS = (
    (0.97, 0.0, 0.02, 0.01),
    (0.90, 0.02, 0.06, 0.02),
    (0.2, 0.05, 0.4, 0.35),
    (0.02, 0.0, 0.9, 0.08),
    (0.45, 0.05, 0.05, 0.45),
)
"""Shares of images that show it after and before, after only, before only, and not at all."""


def both(data: Any) -> tuple[Numbers, Numbers, list[str]]:
    """Whether it is shown after and before."""
    cell, groups = data
    return (cell <= 1).astype(float), ((cell == 0) | (cell == 2)).astype(float), groups


def paired(
    kind: str,
    truth: Callable[[float, float], float],
    now: Callable[..., Interval | None],
    before: Callable[..., Interval | None],
) -> Iterator[Cell]:
    for prompts, images in DESIGNS:
        for icc in correlations(images):
            for cells in PAIRS:
                p, q = cells[0] + cells[1], cells[0] + cells[2]
                changes = prompts * min(cells[1], cells[2]) < 5
                yield Cell(
                    kind,
                    f"{prompts} x {images}, icc {icc:g}, {100 * q:.0f} to {100 * p:.0f} %",
                    truth(p, q),
                    outcomes(cells, prompts, images, icc),
                    lambda data: now(*both(data)),
                    lambda data: before(*both(data)),
                    edge=changes or at_edge(prompts, p, q),
                )


def values(shape: str, prompts: int, images: int, icc: float) -> Callable[..., Any]:
    """Values of mean 1: like CLIP scores, like distances, and such as are 0 for most images."""
    groups = names(prompts, images)

    def draw(random: np.random.Generator) -> tuple[Numbers, list[str]]:
        own, each = random.standard_normal((prompts, 1)), random.standard_normal((prompts, images))
        normal = sqrt(icc) * own + sqrt(1 - icc) * each
        if shape == "normal":
            found = 1 + normal
        elif shape == "skewed":
            found = np.exp(0.6 * normal - 0.18)
        else:
            found = (random.random((prompts, images)) < 0.4) * np.exp(0.5 * normal - 0.125) / 0.4
        return found.ravel(), groups

    return draw


def means() -> Iterator[Cell]:
    for shape in ("normal", "skewed", "mostly zero"):
        for prompts, images in ((8, 1), *DESIGNS):
            for icc in correlations(images):
                yield Cell(
                    "mean",
                    f"{prompts} x {images}, icc {icc:g}, {shape}",
                    1.0,
                    values(shape, prompts, images, icc),
                    lambda data: mean_interval(*data),
                    lambda data: old_mean(*data),
                    # So few values may all be small, and say nothing of large ones.
                    floor=93.0 if shape == "normal" or prompts >= 16 else 90.0,
                )


def corrected() -> Iterator[Cell]:
    for prompts, images in ((16, 1), (64, 1), (16, 4), (40, 4)):
        for icc in correlations(images):
            for rate, (se, sp) in ((0.05, (0.8, 0.98)), (0.3, (0.9, 0.9)), (0.6, (0.7, 0.95))):
                for labels in (60, 300):
                    seen = rate * se + (1 - rate) * (1 - sp)
                    images_of = outcomes((1 - seen, seen), prompts, images, icc)

                    def draw(
                        random: np.random.Generator,
                        of: Any = images_of,
                        n: int = labels,
                        se: float = se,
                        sp: float = sp,
                    ) -> Any:
                        return *of(random), (random.binomial(n, se), n), (random.binomial(n, sp), n)

                    yield Cell(
                        "corrected rate",
                        f"{prompts} x {images}, icc {icc:g}, {100 * rate:g} %, {se:g} and {sp:g} of {labels}",
                        rate,
                        draw,
                        lambda data: (corrected_rate(*data) or (0, None))[1],
                        lambda data: old_rate(*data[:2]),
                        edge=at_edge(prompts, seen),
                    )


def agreements() -> Iterator[Cell]:
    for prompts, images in ((16, 1), (64, 1), (16, 4), (40, 4)):
        for icc in correlations(images):
            for cells in (
                (0.4, 0.1, 0.1, 0.4),
                (0.48, 0.01, 0.01, 0.5),
                (0.15, 0.05, 0.15, 0.65),
                (0.25, 0.25, 0.25, 0.25),
            ):
                p, q = cells[0] + cells[1], cells[0] + cells[2]
                chance = p * q + (1 - p) * (1 - q)
                yield Cell(
                    "kappa",
                    f"{prompts} x {images}, icc {icc:g}, {cells[0] + cells[3]:.2f} agree",
                    1 - (cells[1] + cells[2]) / (1 - chance),
                    outcomes(cells, prompts, images, icc),
                    lambda data: (kappa(*both(data)) or (0, None))[1],
                    None,
                    edge=at_edge(prompts, cells[0] + cells[3], p, q),
                )


WIDTH = 12
"""Dimensions of features."""


def features(prompts: int, images: int, icc: float, shift: float) -> Callable[..., Any]:
    scale = np.arange(1, WIDTH + 1) ** -0.5
    groups = names(prompts, images)

    def draw(random: np.random.Generator) -> tuple[torch.Tensor, list[str]]:
        own = random.standard_normal((prompts, 1, WIDTH))
        each = random.standard_normal((prompts, images, WIDTH))
        found = (1 + shift) * (sqrt(icc) * own + sqrt(1 - icc) * each) * scale + shift + 0.5
        return torch.from_numpy(found.reshape(-1, WIDTH)), groups

    return draw


def reference() -> torch.Tensor:
    return features(200, 1, 0.0, 0.0)(np.random.default_rng(7))[0]


def population(shift: float, n: int) -> torch.Tensor:
    """So many independent images."""
    return features(n, 1, 0.0, shift)(np.random.default_rng(11))[0]


def kernels() -> Iterator[Cell]:
    real = reference()
    for kind, kernel in (("KID", polynomial_kernel), ("CMMD", gaussian_kernel)):
        for shift in (0.0, 0.2):
            truth = expected(kernel, shift, real)
            for prompts, images in ((8, 1), (16, 1), (64, 1), (16, 4), (40, 4)):
                for icc in correlations(images)[-1:]:
                    yield Cell(
                        kind,
                        f"{prompts} x {images}, icc {icc:g}, shift {shift:g}",
                        truth,
                        features(prompts, images, icc, shift),
                        lambda data, k=kernel: mean_over_pairs(pairs_against(k, data[0], real), data[1])[1],
                        lambda data, k=kernel, biased=kind == "CMMD": old_kernel(k, biased, *data, real),
                        # Its cube makes a few images count for much.
                        floor=90.0 if kind == "KID" and prompts < 40 else 93.0,
                        # Near distance 0 the jackknife takes the variance for up to twice what it is.
                        edge=True,
                    )


def expected(kernel: Kernel, shift: float, real: torch.Tensor) -> float:
    """The squared MMD for infinitely many images, by many."""
    parts = population(shift, 40_000).split(400)
    found = [mean_over_pairs(pairs_against(kernel, part, real), names(len(part), 1))[0] for part in parts]
    return float(np.mean(found))


def frechets() -> Iterator[Cell]:
    real = reference()
    distance = frechet_to(real)
    for shift in (0.0, 0.2):
        truth = distance(population(shift, 400_000))
        for prompts, images in ((48, 1), (96, 1), (48, 4), (300, 1)):
            for icc in correlations(images)[:2]:
                yield Cell(
                    "FID",
                    f"{prompts} x {images}, icc {icc:g}, shift {shift:g}",
                    truth,
                    features(prompts, images, icc, shift),
                    lambda data: extrapolated(lambda index: distance(data[0][index]), data[1])[1],
                    lambda data: old_distance(lambda index: distance(data[0][index]), data[1]),
                    edge=shift == 0,
                )


def several_seeds() -> Iterator[Cell]:
    for erasures in (3, 5):
        for prompts, images in ((16, 1), (16, 4), (40, 1)):
            groups = [names(prompts, images)] * erasures
            for own in (0.0, 0.3, 1.0):
                for rate, middle in ((False, 1.0), (True, 0.0), (True, -2.0)):

                    def draw(
                        random: np.random.Generator,
                        size: tuple[int, int, int] = (erasures, prompts, images),
                        own: float = own,
                        rate: bool = rate,
                        middle: float = middle,
                        groups: Any = groups,
                    ) -> Any:
                        a, b, c = size
                        found = (
                            middle
                            + own * random.standard_normal((a, 1, 1))
                            + random.standard_normal((1, b, 1))
                        )
                        noise = random.logistic(size=(a, b, c)) if rate else random.standard_normal((a, b, c))
                        found = found + noise
                        return (
                            (found > 0).astype(float).reshape(a, -1) if rate else found.reshape(a, -1),
                            groups,
                            rate,
                        )

                    yield Cell(
                        "several seeds",
                        f"{erasures} seeds, {prompts} x {images}, sd of seeds {own:g}, "
                        + (f"logit {middle:g}" if rate else "normal"),
                        logistic(middle, sqrt(own**2 + 1)) if rate else middle,
                        draw,
                        lambda data: (found := over_seeds(*data)) and found.interval,
                        lambda data: old_seeds(*data),
                        edge=True,  # with no spread of seeds, it still allows for one
                    )


def logistic(middle: float, spread: float) -> float:
    """Mean of 1 / (1 + exp(-x)) over a normal distribution."""
    x = middle + spread * np.linspace(-8, 8, 4001)
    weights = np.exp(-(np.linspace(-8, 8, 4001) ** 2) / 2)
    return float((weights / (1 + np.exp(-x))).sum() / weights.sum())


# As it was before.


def old_rate(outcomes: Numbers, groups: Sequence[str]) -> Interval | None:
    distinct, hits, n = len(set(groups)), int(outcomes.sum()), len(groups)
    if distinct == n:
        return wilson_interval(hits, n)
    if hits in (0, n):
        return wilson_interval(distinct if hits else 0, distinct)
    return old_mean(outcomes, groups)


def old_mean(values: Numbers, groups: Sequence[str]) -> Interval:
    """The percentile bootstrap over prompts."""
    return percentiles([values], groups, lambda means: means[0])


def percentiles(
    values: Sequence[Numbers], groups: Sequence[str], statistic: Callable[[list[Numbers]], Numbers]
) -> Interval:
    inverse = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(inverse)
    k = len(counts)
    weights = np.random.default_rng(0).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    means = [(weights @ np.bincount(inverse, weights=one)) / (weights @ counts) for one in values]
    low, high = np.quantile(statistic(means), [0.025, 0.975])
    return float(low), float(high)


def old_difference(after: Numbers, before: Numbers, groups: Sequence[str]) -> Interval:
    changes = after - before
    first = changes[0]
    if first != 0 and bool((changes == first).all()):
        share = wilson_interval(k := len(set(groups)), k)[0]
        return (first, first * share) if first < 0 else (first * share, first)
    return old_mean(changes, groups)


def old_ratio(after: Numbers, before: Numbers, groups: Sequence[str]) -> Interval | None:
    """There was none: the percentile bootstrap of the specification."""
    if not before.any():
        return None
    return percentiles([after, before], groups, lambda m: 1 - m[0] / np.maximum(m[1], 1e-9))


def old_distance(statistic: Callable[[torch.Tensor], float], groups: Sequence[str]) -> Interval:
    """The spread over random halves of the prompts."""
    inverse = np.unique(groups, return_inverse=True)[1]
    random, k = np.random.default_rng(0), int(inverse.max()) + 1
    halves = [np.flatnonzero(np.isin(inverse, random.permutation(k)[: k // 2])) for _ in range(50)]
    reach = Z * float(np.std([statistic(torch.from_numpy(half)) for half in halves], ddof=1))
    value = statistic(torch.arange(len(inverse)))
    return value - reach, value + reach


def old_kernel(
    kernel: Kernel, biased: bool, x: torch.Tensor, groups: Sequence[str], real: torch.Tensor
) -> Interval:
    own, cross, inside = kernel(x, x), kernel(x, real).mean(dim=1), kernel(real, real)

    def within(k: torch.Tensor) -> float:
        n = len(k)
        return float(k.mean()) if biased else float((k.sum() - k.diagonal().sum()) / (n * (n - 1)))

    fixed = within(inside)
    return old_distance(lambda i: within(own[i][:, i]) + fixed - 2 * float(cross[i].mean()), groups)


def old_seeds(values: Sequence[Numbers], groups: Sequence[Sequence[str]], rate: bool) -> Interval:
    """The mean of each end."""
    ends = [(old_rate if rate else old_mean)(one, of) for one, of in zip(values, groups, strict=True)]
    low, high = np.mean([end for end in ends if end is not None], axis=0)
    return float(low), float(high)


KINDS: dict[str, tuple[Callable[[], Iterator[Cell]], float]] = {
    "rate": (rates, 1),
    "difference": (
        lambda: paired("difference", lambda p, q: p - q, rate_difference_interval, old_difference),
        1,
    ),
    "ratio": (lambda: paired("ratio", lambda p, q: 1 - p / q, ratio_interval, old_ratio), 1),
    "mean": (means, 1),
    "corrected": (corrected, 1),
    "kappa": (agreements, 1),
    "kernels": (kernels, 0.4),
    "fid": (frechets, 0.2),
    "seeds": (several_seeds, 1),
}
"""Cells of each kind, and which share of the draws they get: some take long."""


def covered(cell: Cell, draws: int, seed: int = 0) -> Covered:
    """Draws a cell's data so often."""
    random = np.random.default_rng([seed, *cell.label.encode()])
    hits, widths, missing = np.zeros((draws, 2)), np.zeros((draws, 2)), np.zeros(draws, dtype=bool)
    for i in range(draws):
        data = cell.draw(random)
        for j, interval in enumerate((cell.now, cell.before)):
            found = interval(data) if interval else None
            if found is None:
                missing[i] |= j == 0
                continue
            hits[i, j] = found[0] - 1e-9 <= cell.truth <= found[1] + 1e-9
            widths[i, j] = found[1] - found[0]
    whole = ~missing
    now, before = (float(share) for share in 100 * hits[whole].mean(axis=0))
    error = sqrt(max(now * (100 - now), 0) / whole.sum())
    wide, narrow = widths[whole].mean(axis=0)
    known = cell.before is not None
    ratio = float(wide / narrow) if known and narrow > 0 else None
    return Covered(now, error, before if known else None, ratio, 100 * float(missing.mean()))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| interval of | prompts x images | covers | before | width / before | none |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    outside, found = 0, {}
    for kind in options.kinds:
        cells, share = KINDS[kind]
        for cell in cells():
            one = covered(cell, max(50, int(share * options.draws)))
            found.setdefault(cell.kind, []).append(one)
            outside += one.out(cell)
            before = "" if one.before is None else f"{one.before:.1f}"
            width = "" if one.width is None else f"{one.width:.2f}"
            mark = " !" if one.out(cell) else ""
            print(
                f"| {cell.kind} | {cell.label} | {one.now:.1f} ± {one.error:.1f}{mark} | {before} | {width} "
                f"| {one.missing:.0f} |",
                flush=True,
            )
    print("\n| interval of | cells | covers, least to most | before | width / before, median |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind, all_of in found.items():
        print(summary(kind, all_of))
    print(f"\n{outside} of {sum(map(len, found.values()))} cells are out of bounds.")
    return int(outside > 0)


def summary(kind: str, found: Sequence[Covered]) -> str:
    """A row for all cells of a kind."""
    now = [one.now for one in found]
    before = [one.before for one in found if one.before is not None]
    widths = [one.width for one in found if one.width is not None]
    were = f"{min(before):.0f} to {max(before):.0f}" if before else "-"
    width = f"{np.median(widths):.2f}" if widths else "-"
    return f"| {kind} | {len(found)} | {min(now):.1f} to {max(now):.1f} | {were} | {width} |"


if __name__ == "__main__":
    sys.exit(main())
