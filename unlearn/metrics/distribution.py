"""How far the images as a whole are from real ones, or from those of the original model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.detectors.detector import ImageFeatures, Network
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import check_network, pair
from unlearn.metrics.roles import RolesMetric
from unlearn.metrics.score import Measured, Score
from unlearn.settings import setting
from unlearn.statistics.distances import (
    frechet_distance,
    frechet_to,
    gaussian_kernel,
    pairs_against,
    pairs_of_pairs,
    polynomial_kernel,
)
from unlearn.statistics.jackknife import extrapolated, mean_over_pairs

AGAINST = ("reference", "original")

TELLING = 4
"""Images for each dimension of the features from which the bias of a Fréchet distance goes with 1 / n."""

FEW = 8
"""Prompts below which an interval of a distance is a rough one."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Both models' distances, and their difference; with what makes them doubtful."""

    erased: Measured
    original: Measured
    difference: Measured
    warnings: tuple[str, ...]


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
    def compared(
        self, erased: Tensor, original: Tensor, reference: Tensor | None, prompts: Sequence[str]
    ) -> Found:
        """Both models' distances to the reference, and their difference.

        Arguments:
            erased: Features with shape :math:`(N, D)`.
            original: Those of the original model's images of the same prompts and seeds.
            reference: Features with shape :math:`(M, D)`; None for the distance of the two.
            prompts: The prompt of each image.
        """

    def score(self, evidence: Evidence) -> Score:
        """The distance of the erased model's images, beside that of the original's."""
        prompts = self.prompts(evidence)
        if len(prompts) < 2:
            return self.undefined(self.unit, f"there are {len(prompts)} images, and a distance needs two.")
        erased, original = (self._features(evidence, model) for model in (0, 1))
        whole = (erased.isfinite() & original.isfinite()).all(dim=1)
        kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
        if len(set(kept)) < 2:
            reason = "images of fewer than two prompts could be scored, and a distance needs two."
            return self.undefined(self.unit, reason, expected=len(prompts))
        reference = None if self.against == "original" else self._reference(evidence)
        if reference is None and self.against == "reference":
            return self.undefined(self.unit, self._unknown_reference(), expected=len(prompts))
        found = self.compared(erased[whole], original[whole], reference, kept)
        return Score(
            value=found.erased.value,
            unit=self.unit,
            n=len(kept),
            prompts=len(set(kept)),
            expected=len(prompts),
            failed=len(prompts) - len(kept),
            interval=found.erased.interval,
            better=self.better,
            version=self.version,
            original=found.original,
            difference=found.difference,
            warnings=found.warnings,
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


@dataclass(kw_only=True)
class FID(DistributionDistance):
    """Fréchet inception distance.

    It is biased upwards, the more so the fewer the images: scores at different n cannot be compared, and no
    interval around it holds its value for infinitely many. What that would be is said beside it, from so many
    images on that it can be told.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
        | (Heusel et al., 2017)
        | https://arxiv.org/abs/1706.08500
        | Effectively Unbiased FID and Inception Score and Where to Find Them (Chong & Forsyth, 2020)
        | https://arxiv.org/abs/1911.07023

    Attributes:
        enough: Images from which the score goes without a warning that it is doubtful.
    """

    unit = "squared distance"
    version = 2

    enough: int = setting(least=1, unit="images")

    def compared(
        self, erased: Tensor, original: Tensor, reference: Tensor | None, prompts: Sequence[str]
    ) -> Found:
        """By the moments of both sets."""
        if reference is None:
            value, own = frechet_distance(erased, original), 0.0

            def on(index: Tensor) -> float:
                return frechet_distance(erased[index], original[index])
        else:
            distance = frechet_to(reference)
            value, own = distance(erased), distance(original)

            def on(index: Tensor) -> float:
                return distance(erased[index])

        return Found(
            erased=Measured(value, None),
            original=Measured(own, None),
            difference=Measured(value - own, None),
            warnings=self._bias(erased, on, prompts),
        )

    def _bias(self, erased: Tensor, on: Callable[[Tensor], float], prompts: Sequence[str]) -> tuple[str, ...]:
        n, d = erased.shape
        said = f"a Fréchet distance over {n} images"
        if n < TELLING * d:
            bias = f"is biased up, by how much cannot be told below {TELLING * d}."
        else:
            value, interval = extrapolated(on, prompts)
            ends = "" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"
            bias = f"is biased up: for infinitely many it would be about {value:.3g}{ends}."
        if n >= self.enough:
            return (f"{said} {bias}",)
        return (
            f"{said} (fewer than {self.enough}) {bias} Compare it only with the original's, and with scores "
            "at the same number of images; prefer KID here.",
        )


@dataclass(kw_only=True)
class KernelDistance(DistributionDistance):
    """A squared maximum mean discrepancy, unbiased at any number of images, and so at times below 0.

    Of images of several seeds no two of one prompt are compared, since they are alike. The interval holds the
    value for infinitely many prompts; the reference is taken as it is.
    """

    scale: ClassVar[float] = 1000.0

    @staticmethod
    @abstractmethod
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        """The kernel matrix, with shape :math:`(N, M)`."""

    def compared(
        self, erased: Tensor, original: Tensor, reference: Tensor | None, prompts: Sequence[str]
    ) -> Found:
        """By the mean over pairs of prompts."""
        if reference is None:
            after = pairs_of_pairs(self.kernel, erased, original)
            before = torch.zeros_like(after)
        else:
            after, before = (pairs_against(self.kernel, x, reference) for x in (erased, original))
        few = len(set(prompts))
        return Found(
            erased=self._measured(after, prompts),
            original=self._measured(before, prompts),
            difference=self._measured(after - before, prompts),
            warnings=(f"a distance over {few} prompts is a rough one, and so is its interval.",)
            if few < FEW
            else (),
        )

    def _measured(self, pairs: Tensor, prompts: Sequence[str]) -> Measured:
        value, interval = mean_over_pairs(self.scale * pairs, prompts)
        return Measured(value, interval)


@dataclass(kw_only=True)
class KID(KernelDistance):
    """Kernel inception distance, times 1000.

    Taken over all pairs. The usual mean over random subsets estimates the same number with more noise, and
    makes it depend on the order of the images.

    References:
        | Demystifying MMD GANs (Bińkowski et al., 2018)
        | https://arxiv.org/abs/1801.01401
    """

    unit = "1e-3"
    version = 2
    kernel = staticmethod(polynomial_kernel)


@dataclass(kw_only=True)
class CMMD(KernelDistance):
    """CLIP maximum mean discrepancy, times 1000.

    The authors' code compares each image with itself as well, and so adds 1000 (1 - mean of the kernel) / N
    for each of the two sets: with few images that is most of what it gives. Here it is left out.

    References:
        | Rethinking FID: Towards a Better Evaluation Metric for Image Generation (Jayasumana et al., 2024)
        | https://arxiv.org/abs/2401.09603
    """

    unit = "1e-3"
    version = 2
    kernel = staticmethod(gaussian_kernel)
