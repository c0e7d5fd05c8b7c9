"""What tests of attacks share: prompts, a judge, a target, and each attack, small."""

from __future__ import annotations

from unlearn.attacks.attack import Target
from unlearn.attacks.embedding.cce import ConceptInversion
from unlearn.attacks.gradient.noise_matching import NoiseMatching
from unlearn.attacks.gradient.p4d import P4D
from unlearn.attacks.gradient.token_searches import NearestTokens, TokenDistributions
from unlearn.attacks.gradient.unlearndiffatk import UnlearnDiffAtk
from unlearn.attacks.objectives import DetectorScore
from unlearn.attacks.random_tokens import RandomTokens
from unlearn.attacks.searches import RandomSearch
from unlearn.attacks.spaces import AddedTokens
from unlearn.attacks.text.coordinate_gradient import CoordinateGradient
from unlearn.attacks.text.genetic import Genetic
from unlearn.attacks.text.greedy import Greedy
from unlearn.attacks.text.mma import MMADiffusion
from unlearn.attacks.text.ringabell import RingABell
from unlearn.attacks.text.sneaky import SneakyPrompt
from unlearn.attacks.text.text_objectives import EndCosine, ShiftedEmbedding
from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.detectors.detector import Detector
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler

PLAIN = PromptSet(
    "attack:x", ("a church", "a photo of a church", "church"), (5, 6, 7), ("",) * 3, ("red",) * 3
)
SAMPLER = Sampler(scheduler="ddim", steps=2, guidance=2.0, resolution=32, batch_size=4)


class Red(Detector):
    """Sees each of its labels where the first channel is bright."""

    def __init__(self, threshold: float = 2.0, labels: tuple[str, ...] = ("red",)) -> None:
        self.threshold, self.labels = threshold, labels

    def scores(self, images):
        return images[:, :1].mean(dim=(2, 3)).repeat(1, len(self.labels))


def concept(label: str = "red", **changes) -> Concept:
    """A church, whose images show ``label``."""
    own = {"kind": "object", "phrases": ["church"], "anchor": "", "retain": [], "prompts": None}
    return Concept(**{**own, "detector": "red", "labels": [label], **changes})


def target_of(model, threshold: float = 2.0, erasure: Erasure | None = None, **changes) -> Target:
    """A model that is to forget :func:`concept`; by default no image is red enough to show it."""
    concepts = ConceptSet(erase={"red": concept(**changes)})
    return Target(model, erasure or Erasure(), concepts, {"red": Red(threshold)}, SAMPLER)


def random_tokens(prompts: int = 3, candidates: int = 3, tokens: int = 2, **changes) -> RandomTokens:
    settings = {
        "prompts": prompts,
        "space": AddedTokens(place="prefix", tokens=tokens),
        "objective": DetectorScore(),
        "search": RandomSearch(candidates=candidates),
    }
    return RandomTokens(**{**settings, **changes})


def unlearndiffatk(**changes) -> UnlearnDiffAtk:
    settings = {
        "prompts": 3,
        "space": AddedTokens(place="prefix", tokens=2),
        "objective": NoiseMatching(
            against="noise", timesteps="ascending", least=0.0, draws=None, together=1, images=2
        ),
        "search": TokenDistributions(lr=0.1, weight_decay=0.1, init="uniform"),
        "looks": 2,
        "steps": 3,
        "choose": "latest",
        "images": 1,
        "confirm": 0,
        "batch_size": 3,
    }
    return UnlearnDiffAtk(**{**settings, **changes})


def p4d(**changes) -> P4D:
    settings = {
        "objective": NoiseMatching(
            against="original", timesteps="uniform", least=0.0, draws=None, together=1, images=2
        ),
        "search": NearestTokens(lr=0.1, weight_decay=0.1),
    }
    return P4D(**{**vars(unlearndiffatk()), **settings, **changes})


def ringabell(**changes) -> RingABell:
    settings = {
        "prompts": 3,
        "looks": 0,
        "space": AddedTokens(place="replace", tokens=3),
        "objective": ShiftedEmbedding(strength=1.0, sentences=None),
        "search": Genetic(rounds=6, patience=6, population=12, crossover=0.5, mutation=0.5),
        "vocabulary": "words",
        "banned": False,
        "batch_size": 64,
    }
    return RingABell(**{**settings, **changes})


def mma(**changes) -> MMADiffusion:
    settings = {
        "objective": EndCosine(),
        "search": CoordinateGradient(rounds=6, patience=6, candidates=12, top=8, starts=1),
        "vocabulary": "parts",
        "banned": True,
    }
    return MMADiffusion(**{**vars(ringabell()), **settings, **changes})


def sneaky(**changes) -> SneakyPrompt:
    settings = {"prompts": 2, "parts": 2, "looks": 4, "batch_size": 16}
    search = Greedy(rounds=6, patience=6, candidates=10)
    return SneakyPrompt(**{**settings, "search": search, **changes})


def cce(**changes) -> ConceptInversion:
    settings = {
        "prompts": 3, "vectors": 2, "start": "anchor", "longest": None, "images": 4, "steps": 5,
        "batch_size": 2, "lr": 0.05, "weight_decay": 0.01,
    }  # fmt: skip
    return ConceptInversion(**{**settings, **changes})
