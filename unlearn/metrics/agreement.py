"""Whether a second judge, of another kind, sees what the first one sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText
from unlearn.metrics.detection import belonging
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import pair
from unlearn.statistics.interval import Interval
from unlearn.statistics.judges import kappa

ASKING = ("plain", "synonym", "implicit")
"""The roles whose prompts ask for the concept."""

POOR = 0.6
"""Below this, two judges are not of one mind (Landis and Koch's "moderate" ends here)."""


@dataclass(frozen=True)
class Agreement:
    """How two judges of one concept agree on both models' images of prompts that ask for it.

    References:
        | A coefficient of agreement for nominal scales (Cohen, 1960)
        | https://doi.org/10.1177/001316446002000104

    Attributes:
        concept: Its name.
        first: Key in ``eval.detectors`` of the judge that the rates are by.
        second: Key of the other.
        both, neither, only_first, only_second: Images in which they see it.
        kappa: Their agreement beyond chance, at most 1; None where it is not defined, since neither ever
            changes its answer.
        interval: Its 95 % interval.
    """

    concept: str
    first: str
    second: str
    both: int
    neither: int
    only_first: int
    only_second: int
    kappa: float | None
    interval: Interval | None

    @property
    def doubt(self) -> str | None:
        """A sentence about why the rates may not be believed; None if they may."""
        if self.kappa is None or self.kappa >= POOR:
            return None
        return (
            f"{self.first} and {self.second} do not agree on what shows {self.concept} (kappa "
            f"{self.kappa:.2f}, below {POOR:g}): {self.first} alone sees it in {self.only_first} images, "
            f"{self.second} alone in {self.only_second}, both in {self.both}, neither in {self.neither}. "
            "Look at the images before believing the rates."
        )


def agreement(evidence: Evidence, second: str | None) -> list[Agreement]:
    """How the judge of each concept agrees with a second one; nothing of concepts that it judges itself.

    A CLIP is asked for the concept's phrases, any other judge for the labels that it is judged by.
    """
    judged = evidence.concepts.erase.items()
    if second is None:
        return []
    found = [_of(evidence, name, second) for name, concept in judged if concept.detector != second]
    return [one for one in found if one is not None]


def _of(evidence: Evidence, name: str, second: str) -> Agreement | None:
    concept = evidence.concepts.erase[name]
    asked = concept.phrases if isinstance(evidence.network(second), ImageText) else concept.labels
    x, y, prompts = [], [], []
    for request in _requests(evidence):
        texts = evidence.images[request].prompts
        if index := belonging(texts, name):
            x.append(evidence.shown(request, index, concept.detector, concept.labels))
            y.append(evidence.shown(request, index, second, asked))
            prompts += [texts.prompts[i] for i in index]
    return _agreed(name, concept.detector, second, torch.cat(x), torch.cat(y), prompts) if x else None


def _requests(evidence: Evidence) -> list[ImageRequest]:
    return [request for role in ASKING for request in pair(role) if request in evidence.images]


def _agreed(
    name: str, first: str, second: str, x: Tensor, y: Tensor, prompts: Sequence[str]
) -> Agreement | None:
    whole = x.isfinite() & y.isfinite()
    kept = [prompt for prompt, fine in zip(prompts, whole.tolist(), strict=True) if fine]
    if not kept:
        return None
    a, b = x[whole] == 1, y[whole] == 1
    value, ends = kappa(a.double(), b.double(), kept) or (None, None)
    return Agreement(
        concept=name,
        first=first,
        second=second,
        both=int((a & b).sum()),
        neither=int((~a & ~b).sum()),
        only_first=int((a & ~b).sum()),
        only_second=int((~a & b).sum()),
        kappa=value,
        interval=ends,
    )
