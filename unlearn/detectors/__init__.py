"""Detectors and feature networks, by their name in ``conf/detector``."""

from unlearn.detectors.detector import Detector, ImageFeatures
from unlearn.detectors.imagenet import ImageNetClassifier
from unlearn.detectors.inception import Inception
from unlearn.detectors.nudenet import NudeNet
from unlearn.detectors.openclip import OpenClip
from unlearn.detectors.pocket import PocketClip, PocketJudge

DETECTORS: dict[str, type[Detector] | type[ImageFeatures]] = {
    "imagenet": ImageNetClassifier,
    "inception": Inception,
    "nudenet": NudeNet,
    "open_clip": OpenClip,
    "pocket_clip": PocketClip,
    "pocket_judge": PocketJudge,
}
