"""How alike features are."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def clip_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each pair of features, not clamped, with shape :math:`(N)`.

    References:
        | CLIPScore: A Reference-free Evaluation Metric for Image Captioning (Hessel et al., 2021)
        | https://arxiv.org/abs/2104.08718
    """
    return (normalize(x.double(), dim=-1) * normalize(y.double(), dim=-1)).sum(dim=-1)
