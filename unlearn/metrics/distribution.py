"""How far the images as a whole are from real ones, or from those of the original model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import ImageFeatures, Network
from unlearn.metrics.metric import Evidence, Measured, Score, check_network, pair
from unlearn.metrics.roles import RolesMetric
from unlearn.settings import setting
from unlearn.statistics.distances import (
    frechet_distance,
    frechet_to,
    gaussian_kernel,
    half_sample_deviation,
    polynomial_kernel,
    within,
)
from unlearn.statistics.interval import Interval, Z

AGAINST = ("reference", "original")

Distance = Callable[[Tensor | None], float]
"""The distance of the images at these positions, of all of them for None."""


@dataclass(kw_only=True)
class DistributionDistance(RolesMetric):
    """A distance between sets of images.

    Against the ``original``, both sets are of the same prompts and seeds: small changes show, but the number
    says nothing about quality, and the original's own value is its distance to itself.

    Attributes:
        features: Key in ``eval.detectors`` of the feature network.
        roles: Which prompts the images are drawn from: those whose images should not change.
        against: ``reference`` for the real images of the feature network's world, ``original`` for the
            original model's.
    """

    better = "lower"
    unit: ClassVar[str]

    features: str
    against: str = setting(choices=AGAINST, kind="set of images")

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``features`` gives features."""
        return check_network("features", self.features, detectors, ImageFeatures)

    @abstractmethod
    def to_fixed(self, reference: Tensor) -> Callable[[Tensor], Distance]:
        """The distance of sets with shape :math:`(N, D)` to a fixed one with shape :math:`(M, D)`."""

    @abstractmethod
    def to_paired(self, x: Tensor, y: Tensor) -> Distance:
        """The distance of two sets of the same prompts, both with shape :math:`(N, D)`."""

    def warnings(self, n: int) -> tuple[str, ...]:  # noqa: ARG002
        """What makes the number doubtful if it is taken over ``n`` images."""
        return ()

    def score(self, evidence: Evidence) -> Score:
        """The distance of the erased model's images, beside that of the original's."""
        prompts = self.prompts(evidence)
        if len(prompts) < 2:
            return self.undefined(self.unit, f"there are {len(prompts)} images, and a distance needs two.")
        erased, original = (self._features(evidence, model) for model in (0, 1))
        whole = (erased.isfinite() & original.isfinite()).all(dim=1)
        kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
        if len(kept) < 2:
            return self.undefined(self.unit, "no image could be scored.", expected=len(prompts))
        erased, original = erased[whole], original[whole]
        if self.against == "original":
            after, before = self.to_paired(erased, original), self.to_paired(original, original)
        else:
            if (reference := self._reference(evidence)) is None:
                return self.undefined(self.unit, self._unknown_reference(), expected=len(prompts))
            distance = self.to_fixed(reference)
            after, before = distance(erased), distance(original)
        value, own = after(None), before(None)
        return Score(
            value=value,
            unit=self.unit,
            n=len(kept),
            expected=len(prompts),
            failed=len(prompts) - len(kept),
            interval=_interval(value, after, kept),
            better=self.better,
            version=self.version,
            original=Measured(own, _interval(own, before, kept)),
            difference=Measured(value - own, _interval(value - own, lambda i: after(i) - before(i), kept)),
            warnings=self.warnings(len(kept)),
        )

    def _features(self, evidence: Evidence, model: int) -> Tensor:
        sets = [pair(role)[model] for role in self.roles if len(evidence.images[pair(role)[model]])]
        return torch.cat([evidence.features(self.features, request) for request in sets])

    def _reference(self, evidence: Evidence) -> Tensor | None:
        network = evidence.network(self.features)
        reference = network.reference() if isinstance(network, ImageFeatures) else None
        return None if reference is None else reference.double().cpu()

    def _unknown_reference(self) -> str:
        return (
            f"eval.detectors.{self.features} has no features of real images to take a distance to. Set its "
            "'statistics' to have this score; the distance to the original model's images needs none."
        )


def _interval(value: float, distance: Distance, groups: Sequence[str]) -> Interval | None:
    deviation = half_sample_deviation(distance, groups)
    return None if deviation is None else (value - Z * deviation, value + Z * deviation)


@dataclass(kw_only=True)
class FID(DistributionDistance):
    """Fréchet inception distance.

    It is biased upwards, the more so the fewer the images: scores at different n cannot be compared.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
        | (Heusel et al., 2017)
        | https://arxiv.org/abs/1706.08500

    Attributes:
        enough: Images from which the score goes without a warning.
    """

    unit = "squared distance"

    enough: int = setting(least=1, unit="images")

    def to_fixed(self, reference: Tensor) -> Callable[[Tensor], Distance]:
        """By the moments of both sets."""
        distance = frechet_to(reference)
        return lambda x: lambda index: distance(x if index is None else x[index])

    def to_paired(self, x: Tensor, y: Tensor) -> Distance:
        """By the moments of both sets."""
        return lambda index: frechet_distance(x, y) if index is None else frechet_distance(x[index], y[index])

    def warnings(self, n: int) -> tuple[str, ...]:
        """That the number is biased."""
        if n >= self.enough:
            return ()
        return (
            f"a Fréchet distance over {n} images (fewer than {self.enough}) is biased up. Compare it only "
            "with the original's, and with scores at the same number of images; prefer KID and CMMD here.",
        )


@dataclass(kw_only=True)
class KernelDistance(DistributionDistance):
    """A squared maximum mean discrepancy, from kernel matrices that are computed once."""

    unbiased: ClassVar[bool]
    scale: ClassVar[float] = 1000.0

    @staticmethod
    @abstractmethod
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        """The kernel matrix, with shape :math:`(N, M)`."""

    def to_fixed(self, reference: Tensor) -> Callable[[Tensor], Distance]:
        """With the kernel's mean over the reference."""
        inside = within(self.kernel(reference, reference), self.unbiased)

        def of(x: Tensor) -> Distance:
            own, cross = self.kernel(x, x), self.kernel(x, reference).mean(dim=1)

            def distance(index: Tensor | None) -> float:
                chosen = slice(None) if index is None else index
                mean = cross[chosen].mean().item()
                return self.scale * (within(own[chosen][:, chosen], self.unbiased) + inside - 2 * mean)

            return distance

        return of

    def to_paired(self, x: Tensor, y: Tensor) -> Distance:
        """With the same positions of both sets.

        Without bias, no image is compared with its own pair either, on which it depends (Gretton et al.,
        2012, equation 4): equal sets are at distance 0.
        """
        xx, yy, xy = self.kernel(x, x), self.kernel(y, y), self.kernel(x, y)

        def distance(index: Tensor | None) -> float:
            chosen = slice(None) if index is None else index
            means = [within(k[chosen][:, chosen], self.unbiased) for k in (xx, yy, xy)]
            return self.scale * (means[0] + means[1] - 2 * means[2])

        return distance


@dataclass(kw_only=True)
class KID(KernelDistance):
    """Kernel inception distance, times 1000: unbiased at any number of images, and so at times below 0.

    References:
        | Demystifying MMD GANs (Bińkowski et al., 2018)
        | https://arxiv.org/abs/1801.01401
    """

    unit = "1e-3"
    unbiased = True
    kernel = staticmethod(polynomial_kernel)


@dataclass(kw_only=True)
class CMMD(KernelDistance):
    """CLIP maximum mean discrepancy, times 1000.

    References:
        | Rethinking FID: Towards a Better Evaluation Metric for Image Generation (Jayasumana et al., 2024)
        | https://arxiv.org/abs/2401.09603
    """

    unit = "1e-3"
    unbiased = False
    kernel = staticmethod(gaussian_kernel)
