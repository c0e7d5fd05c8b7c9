"""Detectors and feature networks, by their name in ``conf/detector``."""

from unlearn.detectors.detector import Detector, ImageFeatures
from unlearn.detectors.imagenet import ImageNetClassifier
from unlearn.detectors.inception import Inception
from unlearn.detectors.nudenet import NudeNet
from unlearn.detectors.openclip import OpenClip

DETECTORS: dict[str, type[Detector] | type[ImageFeatures]] = {
    "imagenet": ImageNetClassifier,
    "inception": Inception,
    "nudenet": NudeNet,
    "open_clip": OpenClip,
}
