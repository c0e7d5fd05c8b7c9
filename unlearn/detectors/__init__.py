"""Detectors and feature networks, by their name in ``conf/detector``."""

from unlearn.detectors.detector import Detector, ImageFeatures

DETECTORS: dict[str, type[Detector] | type[ImageFeatures]] = {}
