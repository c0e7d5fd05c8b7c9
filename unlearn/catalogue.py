"""Everything that has a name in a configuration: the classes behind ``conf/<group>/<name>.yaml``."""

from __future__ import annotations

from typing import Any

from unlearn.attacks.attack import Attack
from unlearn.attacks.embedding.cce import ConceptInversion
from unlearn.attacks.gradient.p4d import P4D
from unlearn.attacks.gradient.unlearndiffatk import UnlearnDiffAtk
from unlearn.attacks.random_tokens import RandomTokens
from unlearn.attacks.replay import Replay
from unlearn.attacks.text.mma import MMADiffusion
from unlearn.attacks.text.ringabell import RingABell
from unlearn.attacks.text.sneaky import SneakyPrompt
from unlearn.detectors.detector import Detector, ImageFeatures
from unlearn.detectors.imagenet import ImageNetClassifier
from unlearn.detectors.inception import Inception
from unlearn.detectors.lpips import LPIPS
from unlearn.detectors.nudenet import NudeNet
from unlearn.detectors.openclip import OpenClip
from unlearn.detectors.pocket import PocketClip, PocketJudge
from unlearn.methods.closed_form.mace.mace import MACE
from unlearn.methods.closed_form.realera.realera import RealEra
from unlearn.methods.closed_form.rece import RECE
from unlearn.methods.closed_form.trce.trce import TRCE
from unlearn.methods.closed_form.uce import UCE
from unlearn.methods.guards.negative_prompt import NegativePrompt
from unlearn.methods.guards.safree.safree import SAFREE
from unlearn.methods.guards.sld import SLD
from unlearn.methods.method import Method
from unlearn.methods.none import Nothing
from unlearn.methods.training.advunlearn.advunlearn import AdvUnlearn
from unlearn.methods.training.concept_ablation import ConceptAblation
from unlearn.methods.training.doco.doco import DoCo
from unlearn.methods.training.duge.duge import DUGE
from unlearn.methods.training.erasediff import EraseDiff
from unlearn.methods.training.esd import ESD
from unlearn.methods.training.forget_me_not import ForgetMeNot
from unlearn.methods.training.rg import RG
from unlearn.methods.training.salun import SalUn
from unlearn.methods.training.selective_amnesia import SelectiveAmnesia
from unlearn.methods.training.spm import SPM
from unlearn.metrics.alignment import CLIPScore
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.distribution import CMMD, FID, KID
from unlearn.metrics.metric import Metric
from unlearn.metrics.perceptual import ImageDistance
from unlearn.metrics.protocols.counts import LabelCounts, Presence
from unlearn.metrics.protocols.erosion import ErosionCurve
from unlearn.metrics.protocols.harmonic import HarmonicMean
from unlearn.metrics.protocols.lpips import ErasedPerceptualDistance, PerceptualDistance, PerceptualGap
from unlearn.metrics.protocols.outcomes import NewFailures
from unlearn.metrics.protocols.ratio import ErasureRatio
from unlearn.metrics.protocols.styles import ErasedCLIPScore, StyleGap
from unlearn.metrics.protocols.thresholds import ThresholdCurve
from unlearn.metrics.robustness import AttackSuccessRate, WorstCaseSuccessRate
from unlearn.models.families.sd import StableDiffusion
from unlearn.resurgence.quantisation import Quantisation
from unlearn.resurgence.relearning import Relearning
from unlearn.resurgence.resurgence import Resurgence
from unlearn.resurgence.sampling import OtherGuidance, OtherSamplers, StartImages
from unlearn.tracking.none import Silent
from unlearn.tracking.tracker import Tracker
from unlearn.tracking.wandb import Wandb

METHODS: dict[str, type[Method]] = {
    "none": Nothing,
    "uce": UCE,
    "rece": RECE,
    "mace": MACE,
    "esd": ESD,
    "concept_ablation": ConceptAblation,
    "salun": SalUn,
    "erasediff": EraseDiff,
    "selective_amnesia": SelectiveAmnesia,
    "forget_me_not": ForgetMeNot,
    "spm": SPM,
    "advunlearn": AdvUnlearn,
    "trce": TRCE,
    "realera": RealEra,
    "duge": DUGE,
    "doco": DoCo,
    "rg": RG,
    "negative_prompt": NegativePrompt,
    "sld": SLD,
    "safree": SAFREE,
}

ATTACKS: dict[str, type[Attack]] = {
    "random_tokens": RandomTokens,
    "unlearndiffatk": UnlearnDiffAtk,
    "p4d": P4D,
    "ringabell": RingABell,
    "mma": MMADiffusion,
    "sneaky": SneakyPrompt,
    "cce": ConceptInversion,
    "replay": Replay,
}

METRICS: dict[str, type[Metric]] = {
    "asr": AttackSuccessRate,
    "clip_e": ErasedCLIPScore,
    "clip_score": CLIPScore,
    "cmmd": CMMD,
    "erased": DetectionRate,
    "erasure_ratio": ErasureRatio,
    "erosion": ErosionCurve,
    "fid": FID,
    "h_a": StyleGap,
    "h_o": HarmonicMean,
    "identity": ImageDistance,
    "kid": KID,
    "label_counts": LabelCounts,
    "lpips": PerceptualDistance,
    "lpips_d": PerceptualGap,
    "lpips_e": ErasedPerceptualDistance,
    "new_failures": NewFailures,
    "presence": Presence,
    "retained": ConceptAccuracy,
    "thresholds": ThresholdCurve,
    "worst_case": WorstCaseSuccessRate,
}

DETECTORS: dict[str, type[Detector] | type[ImageFeatures]] = {
    "imagenet": ImageNetClassifier,
    "inception": Inception,
    "lpips": LPIPS,
    "nudenet": NudeNet,
    "open_clip": OpenClip,
    "pocket_clip": PocketClip,
    "pocket_judge": PocketJudge,
}

MODELS: dict[str, type[StableDiffusion]] = {"sd": StableDiffusion}

RESURGENCES: dict[str, type[Resurgence]] = {
    "relearning": Relearning,
    "quantisation": Quantisation,
    "samplers": OtherSamplers,
    "guidance": OtherGuidance,
    "start_images": StartImages,
}

TRACKERS: dict[str, type[Tracker]] = {"none": Silent, "wandb": Wandb}

TABLES: dict[str, dict[str, Any]] = {
    "attack": ATTACKS,
    "detector": DETECTORS,
    "method": METHODS,
    "metric": METRICS,
    "model": MODELS,
    "resurgence": RESURGENCES,
    "tracker": TRACKERS,
}
"""The names of each group of ``conf/``; :mod:`unlearn.plugins` enters those that come from outside."""

BASES: dict[str, tuple[type, ...]] = {
    "attack": (Attack,),
    "detector": (Detector, ImageFeatures),
    "method": (Method,),
    "metric": (Metric,),
    "model": (StableDiffusion,),
    "resurgence": (Resurgence,),
    "tracker": (Tracker,),
}
"""What the classes of each group extend."""
