"""Image sets on disk and networks that read them by their colour."""

from __future__ import annotations

import pytest
import torch

from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet, image_name, write_image
from unlearn.detectors.detector import Detector, ImageText
from unlearn.metrics.evidence import Evidence

LABELS = ("church", "cat", "house")


class Colours(Detector):
    """Sees the label whose channel is the brightest."""

    labels = LABELS
    threshold = 0.5

    def scores(self, images):
        return images.mean(dim=(2, 3))


class ColourClip(ImageText):
    """Features are the mean colours; a text's are those of the label that it names."""

    labels = LABELS
    others = list(LABELS)  # noqa: RUF012
    template = "a {}"
    threshold = 0.4

    def features(self, images):
        return images.mean(dim=(2, 3)) * 3

    def text_features(self, texts):
        return torch.tensor([[float(label in text) for label in LABELS] for text in texts]) + 1e-3

    def reference(self):
        return torch.rand(30, 3, generator=torch.Generator().manual_seed(9))


class Broken(Colours):
    """Fails on images whose first pixel is white, in one of two ways."""

    def __init__(self, raises=True):
        self.raises = raises

    def scores(self, images):
        white = (images[:, :, 0, 0] == 1).all(dim=1)
        if self.raises and bool(white.any()):
            raise RuntimeError("out of order")
        return super().scores(images).masked_fill(white[:, None], torch.nan)


def concept(**changes):
    values = {
        "kind": "object",
        "phrases": ["church"],
        "anchor": "house",
        "retain": [],
        "prompts": None,
        "detector": "judge",
        "labels": ["church"],
    }
    return Concept(**(values | changes))


def picture(label, noise=0.0, seed=0):
    """An image that shows ``label``."""
    base = torch.full((3, 4, 4), 0.1)
    base[LABELS.index(label)] = 0.8
    return (base + noise * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


@pytest.fixture
def build(tmp_path):
    """Builds evidence from images by role and model."""

    def make(images, shows=None, prompts=None, concepts=None, batch_size=64, failures=0, detectors=None):
        sets = {}
        for (role, model), drawn in images.items():
            n, folder = len(drawn), tmp_path / f"{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            for index, image in enumerate(drawn):
                write_image(folder / image_name(index), image)
            texts = tuple((prompts or {}).get(role, [f"{role} {i}" for i in range(n)]))
            labels = tuple((shows or {}).get(role, [""] * n))
            names = (
                tuple(list(concepts.erase)[i % len(concepts.erase)] for i in range(n))
                if concepts
                else ("church",) * n
            )
            request = ImageRequest(role, model)
            sets[request] = ImageSet(request, PromptSet(role, texts, tuple(range(n)), labels, names), folder)
        known = {"judge": Colours(), "clip": ColourClip()} | (detectors or {})
        chosen = concepts or ConceptSet(erase={"church": concept()})
        return Evidence(chosen, sets, known, failures, batch_size)

    return make
