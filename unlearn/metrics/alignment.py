"""Whether images show what their prompts say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText
from unlearn.errors import ConfigError
from unlearn.metrics.evidence import Evidence
from unlearn.metrics.metric import pair
from unlearn.metrics.roles import ClipMetric
from unlearn.metrics.score import Score
from unlearn.settings import setting
from unlearn.statistics.similarity import clip_similarity


@dataclass(kw_only=True)
class CLIPScore(ClipMetric):
    r"""Mean similarity of images and their prompts, :math:`100 \cos(E_I(x), E_T(p))`, not clamped.

    References:
        | CLIPScore: A Reference-free Evaluation Metric for Image Captioning (Hessel et al., 2021)
        | https://arxiv.org/abs/2104.08718

    Attributes:
        clip: Key in ``eval.detectors`` of the CLIP. Scores of different ones cannot be compared.
        roles: Which prompts the images are drawn from: those whose images should not change.
        margin: How many percent of the original's the mean may be from it for the images to be called as
            good: CLIPs have scales of their own. None asks for no such test.
    """

    better: ClassVar[Literal["lower", "higher"]] = "higher"
    unit = "100 cos"

    margin: float | None = setting(default=None, above=0, most=100, unit="percent")

    def mean(self, evidence: Evidence, prompts: Sequence[str]) -> Score:
        """In hundredths of a cosine."""
        similarity = {
            request: self._similarity(evidence, request) for request in self.needs(evidence.concepts, ())
        }
        erased, original = (
            torch.cat([similarity[pair(role)[model]] for role in self.roles]) for model in (0, 1)
        )
        margin = None if self.margin is None else self.margin / 100 * original.nanmean().abs().item()
        return self.mean_score(erased, original, prompts, self.unit, similarity, margin=margin or None)

    @torch.no_grad()
    def _similarity(self, evidence: Evidence, request: ImageRequest) -> Tensor:
        clip = evidence.network(self.clip)
        if not isinstance(clip, ImageText):
            raise ConfigError(f"eval.detectors.{self.clip}: is no CLIP, and a metric asks for one.")
        prompts = evidence.images[request].prompts.prompts
        if not prompts:
            return torch.empty(0, dtype=torch.double)
        distinct = sorted(set(prompts))
        texts = clip.text_features(distinct).cpu()[[distinct.index(prompt) for prompt in prompts]]
        return 100 * clip_similarity(evidence.features(self.clip, request), texts)
