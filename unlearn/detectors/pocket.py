"""The judge and the CLIP that ship with the pocket model.

Both were trained on the renders that pocket was trained on, apart from it and from each other
(`unlearn/data/pocket/MODEL_CARD.md` says how, and how well they do).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearn.detectors.card import Card
from unlearn.detectors.detector import Detector, ImageText
from unlearn.detectors.errors import Errors
from unlearn.detectors.loading import whole
from unlearn.detectors.pocket_networks import JudgeNetwork, MultiLabelNetwork
from unlearn.errors import ArtifactError
from unlearn.settings import setting

NONE, NOTHING = "none of these", "nothing"
SIZE = 64
VERSIONS = {
    "1": ("heads.json", "judge.safetensors", "card_1.json"),
    "2": ("heads_2.json", "judge_2.safetensors", "card_2.json"),
}
"""The files of each version of the judge: its answers, its network, its errors."""
NETWORKS: dict[str, Callable[[dict[str, list[str]]], nn.Module]] = {
    "1": JudgeNetwork,
    "2": MultiLabelNetwork,
}
ALSO = {"family": ("ink",)}
"""Answers to other questions that settle one: an ink print is drawn by neither family."""
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


@dataclass(kw_only=True)
class PocketJudge(Detector):
    """Names the subjects, the medium and the emoji family of an image from pocket's world, or abstains.

    A label shows if its probability is at least ``threshold``. An image in which no answer to the question
    that a label belongs to is that probable cannot be judged by it. An ink print answers the question of the
    family: it is drawn by neither.

    Version 2 gives each label a probability of its own, since an image may show several things, knows an
    empty image, and has learned from damaged images (noise, blur, shifts, crops, darkness, half-erased
    things) as an erased model draws them. Version 1 names one subject, the most probable, and has learned
    from clean ones; old results are made again with it. Both have learned from mixed-up, cut-up and
    half-denoised images that a malformed cat is no cat.

    Attributes:
        weights: Version of the network.
        threshold: Probability from which a label counts as shown. The errors that the card gives were
            measured at 0.5, and are not known at any other.
        device: Where it computes.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"device"})

    weights: str = setting(default="2", choices=tuple(VERSIONS))
    threshold: float = setting(above=0, below=1)
    device: str

    @property
    def files(self) -> list[Path]:
        """The network, its answers, and the card with its errors."""
        return packaged(*(f"judge/{name}" for name in VERSIONS[self.weights]))

    @cached_property
    def heads(self) -> dict[str, list[str]]:
        """The answers to each question; in version 1 "none of these" is one."""
        with whole("the judge in data/pocket/judge", AGAIN):
            found: dict[str, list[str]] = json.loads(shipped("judge", VERSIONS[self.weights][0]))
        return found

    @cached_property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override]
        """Every answer that names something."""
        return tuple(label for label in self._answers if label not in (NONE, NOTHING))

    def scores(self, images: Tensor) -> Tensor:
        """Probability of each label, with shape :math:`(B, K)`."""
        found = self.readout(images)
        return found[:, [self._answers.index(label) for label in self.labels]]

    def readout(self, images: Tensor) -> Tensor:
        """Probability of each answer, "nothing" and "none of these" among them, with shape
        :math:`(B, R)`."""
        logits = self._network(_sized(images.to(self.device)))
        each = [logits[question].float() for question in self.heads]
        if self.weights == "1":
            return torch.cat([torch.softmax(head, dim=1) for head in each], dim=1)
        return torch.sigmoid(torch.cat(each, dim=1))

    def probability(self, readout: Tensor, label: str) -> Tensor:
        """How strongly ``label`` shows, with shape :math:`(B)`."""
        return readout[:, self._answers.index(label)]

    def abstains(self, readout: Tensor, label: str) -> Tensor:
        """Whether it names no answer to the question of ``label``, as booleans with shape :math:`(B)`."""
        question = next(name for name, answers in self.heads.items() if label in answers)
        settling = {*self.heads[question], *ALSO.get(question, ()), NOTHING} - {NONE}
        columns = [i for i, answer in enumerate(self._answers) if answer in settling]
        return readout[:, columns].amax(dim=1) < self.threshold

    def errors(self, label: str) -> Errors | None:
        """How often it errs about ``label`` on all sets of its card; None at a threshold that was not
        measured."""
        if self.threshold != self._card.threshold:
            return None
        question = next(answers for answers in self.heads.values() if label in answers)
        return self._card.errors(label, [answer for answer in question if answer != NONE])

    @cached_property
    def _answers(self) -> list[str]:
        """All answers to all questions: the columns of a readout."""
        return [answer for answers in self.heads.values() for answer in answers]

    @cached_property
    def _card(self) -> Card:
        with whole("the judge's card in data/pocket/judge", AGAIN):
            return Card.from_json(shipped("judge", VERSIONS[self.weights][2]))

    @cached_property
    def _network(self) -> nn.Module:
        with whole("the judge in data/pocket/judge", AGAIN):
            network = NETWORKS[self.weights](self.heads)
            network.load_state_dict(_weights("judge", VERSIONS[self.weights][1]))
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
