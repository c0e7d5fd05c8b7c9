"""The judge and the CLIP that ship with the pocket model.

Both were trained on the renders that pocket was trained on, apart from it and from each other
(`unlearn/data/pocket/MODEL_CARD.md` says how, and how well they do).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearn.detectors.detector import Detector, ImageText
from unlearn.detectors.loading import whole
from unlearn.errors import ArtifactError
from unlearn.settings import setting

NONE = "none of these"
SIZE = 64
AGAIN = "The package's files are damaged: install it again."


def packaged(*names: str) -> list[Path]:
    """Files of the packaged model, by their path in it."""
    return [Path(str(files("unlearn").joinpath("data", "pocket", name))) for name in names]


def shipped(part: str, name: str) -> bytes:
    """A file of the packaged model.

    Raises:
        ArtifactError: If it is missing.
    """
    try:
        return files("unlearn").joinpath("data", "pocket", part, name).read_bytes()
    except OSError as error:
        raise ArtifactError(
            f"the package lacks its file data/pocket/{part}/{name}. Install it again."
        ) from error


class JudgeNetwork(nn.Module):
    """A small convolutional network with one classifier for each question asked of an image.

    Arguments:
        heads: The answers to each question.
    """

    widths: ClassVar[tuple[int, ...]] = (3, 32, 64, 128, 192)

    def __init__(self, heads: dict[str, list[str]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip(self.widths, self.widths[1:], strict=False):
            for width, stride in ((before, 2), (after, 1)):
                layers += [
                    nn.Conv2d(width, after, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                ]
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(2 * self.widths[-1], len(of)) for name, of in heads.items()}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits of each head, with shape :math:`(B, K)`, for images in [0, 1] of 64 pixels."""
        found = self.trunk(2 * images - 1)
        pooled = torch.cat([found.mean((2, 3)), found.amax((2, 3))], dim=1)
        return {name: head(pooled) for name, head in self.heads.items()}


@dataclass(kw_only=True)
class PocketJudge(Detector):
    """Names the subject, the medium and the emoji family of an image from pocket's world, or abstains.

    Each of the three questions has the answer "none of these", learned from mixed-up, corrupted and
    half-denoised
    images, so that a malformed cat is no cat. A label shows if its probability is at least ``threshold``.

    Attributes:
        threshold: Probability from which a label counts as shown.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    threshold: float = setting(above=0, below=1)
    device: str

    @property
    def files(self) -> list[Path]:
        """The network and its answers."""
        return packaged("judge/heads.json", "judge/judge.safetensors")

    @cached_property
    def heads(self) -> dict[str, list[str]]:
        """The answers to each question, "none of these" among them."""
        with whole("the judge in data/pocket/judge", AGAIN):
            found: dict[str, list[str]] = json.loads(shipped("judge", "heads.json"))
        return found

    @cached_property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Every answer but "none of these"."""
        return tuple(label for answers in self.heads.values() for label in answers if label != NONE)

    def scores(self, images: Tensor) -> Tensor:
        """Probability of each label, with shape :math:`(B, K)`."""
        logits = self._network(_sized(images.to(self.device)))
        kept = [
            torch.softmax(logits[name].float(), dim=1)[
                :, [i for i, label in enumerate(answers) if label != NONE]
            ]
            for name, answers in self.heads.items()
        ]
        return torch.cat(kept, dim=1)

    @cached_property
    def _network(self) -> JudgeNetwork:
        with whole("the judge in data/pocket/judge", AGAIN):
            network = JudgeNetwork(self.heads)
            network.load_state_dict(_weights("judge", "judge.safetensors"))
        return network.to(self.device).eval().requires_grad_(False)


@dataclass(kw_only=True)
class PocketClip(ImageText):
    """A small open_clip model that scores alignment and gives the features for FID, KID and CMMD.

    References:
        | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        | https://arxiv.org/abs/2103.00020

    Attributes:
        others: Labels that compete with the one asked for.
        template: Sentence that a label is put into.
        threshold: Probability from which a label counts as shown.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    others: list[str]
    template: str = setting(contains=("{}",))
    threshold: float = setting(least=0, most=1)
    device: str

    @property
    def files(self) -> list[Path]:
        """The network, the features of real renders, and the tokenizer."""
        names = ("config.json", "clip.safetensors", "reference.safetensors")
        tokenizer = sorted(path for path in packaged("tokenizer")[0].iterdir() if path.name[0] != ".")
        return [*packaged(*(f"clip/{name}" for name in names)), *tokenizer]

    def features(self, images: Tensor) -> Tensor:
        """Image features with shape :math:`(B, 128)`."""
        network, _ = self._loaded
        with torch.no_grad():
            found: Tensor = network.encode_image(2 * _sized(images.to(self.device)) - 1)
        return found.float()

    def text_features(self, texts: list[str]) -> Tensor:
        """Text features with shape :math:`(B, 128)`; what is beyond 77 tokens is cut off."""
        network, tokenizer = self._loaded
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            found: Tensor = network.encode_text(ids.to(self.device))
        return found.float()

    def reference(self) -> Tensor:
        """Features of real renders, with shape :math:`(N, 128)`."""
        with whole("data/pocket/clip/reference.safetensors", AGAIN):
            return _weights("clip", "reference.safetensors")["features"].float()

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from open_clip.model import CLIP
        from transformers import CLIPTokenizer

        with whole("the CLIP in data/pocket/clip", AGAIN):
            network = CLIP(**json.loads(shipped("clip", "config.json")))
            network.load_state_dict(
                {name: value.float() for name, value in _weights("clip", "clip.safetensors").items()}
            )
        tokenizer = CLIPTokenizer.from_pretrained(
            str(files("unlearn").joinpath("data", "pocket", "tokenizer"))
        )
        return network.to(self.device).eval().requires_grad_(False), tokenizer


def _weights(part: str, name: str) -> dict[str, Tensor]:
    from safetensors.torch import load

    return load(shipped(part, name))


def _sized(images: Tensor) -> Tensor:
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    return F.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
