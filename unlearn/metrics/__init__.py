"""Metrics, by their name in ``conf/metric``."""

from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.distribution import CMMD, FID, KID
from unlearn.metrics.metric import Metric
from unlearn.metrics.perceptual import ImageDistance
from unlearn.metrics.robustness import AttackSuccessRate, WorstCaseSuccessRate

METRICS: dict[str, type[Metric]] = {
    "asr": AttackSuccessRate,
    "clip_score": CLIPScore,
    "cmmd": CMMD,
    "erased": DetectionRate,
    "fid": FID,
    "identity": ImageDistance,
    "kid": KID,
    "retained": ConceptAccuracy,
    "worst_case": WorstCaseSuccessRate,
}
