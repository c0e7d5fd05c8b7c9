"""Images that show red where their prompt says so, and attacks on prompts of them: every score is known."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from noise_world import Model, generate

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.concepts.concept import Concept, ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import Detector
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.robustness import AttackSuccessRate
from unlearn.pipeline.attacking import Attacked
from unlearn.pipeline.judging import Judging

BOTH = ("original", "erased")
#: The erased model shows red only where a prompt says "!", the original shows it wherever none says "~"; an
#: image that says "?" breaks the detector.
PLAIN = PromptSet("plain", ("a", "b!", "c", "d?", "e~"), (1, 2, 3, 4, 5), ("red",) * 5, ("red",) * 5)
NEIGHBOURS = PromptSet("neighbour", ("f", "g~", "h~", "i~"), (6, 7, 8, 9), ("",) * 4, ("red",) * 4)
#: What each attack found for the first three plain prompts, and whether it saw the concept.
FOUND = {"white": (("a", "b", "c!"), (True, False, True)), "chance": (("a!", "b!", "c"), (True, True, False))}
METRICS = {
    "erased": DetectionRate(role="plain", known_from=50),
    "asr_white": AttackSuccessRate(attack="white"),
    "asr_white_resisted": AttackSuccessRate(attack="white", resisted=True),
}


def painted(model, prompts, seeds, sampler, guard=None, start=None):  # noqa: ARG001
    """Draws as :func:`unlearn.models.sampling.draw`."""
    for first in range(0, len(prompts), sampler.batch_size):
        here = slice(first, first + sampler.batch_size)
        rows = zip(prompts[here], seeds[here], strict=True)
        yield torch.stack([_picture(text, seed, model.darker < 1) for text, seed in rows])


def _picture(text: str, seed: int, erased: bool):
    image = 0.1 * torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    image[0] += 0.7 if ("!" in text if erased else "~" not in text) else 0.0
    image[2] += 0.9 if "?" in text else 0.0
    return image


@dataclass(kw_only=True)
class Red(Detector):
    """Sees red, and fails where it is blue."""

    threshold: float = 0.4
    labels: tuple[str, ...] = ("red",)
    version = "7"

    def scores(self, images):
        red, _, blue = images.mean(dim=(2, 3)).T
        return red.masked_fill(blue > 0.5, torch.nan)[:, None]


def concepts() -> ConceptSet:
    own = {"kind": "object", "phrases": ["red"], "anchor": "", "retain": [], "prompts": None}
    return ConceptSet(erase={"red": Concept(**own, detector="red", labels=["red"])})


def judging(**changes) -> Judging:
    return Judging(**{"concepts": concepts(), "detectors": {"red": Red()}, "failures": 1, **changes})


def attacked_prompts(name: str) -> PromptSet:
    return PromptSet(f"attack:{name}", FOUND[name][0], (1, 2, 3), ("red",) * 3, ("red",) * 3)


def attacks(store) -> dict[str, Attacked]:
    """Both, with artifacts of their own, where prompts were made from others than those of the images."""
    found = {}
    for name, (_, seen) in FOUND.items():
        prompts = AdversarialPrompts(
            attacked_prompts(name),
            PLAIN.prompts[:3],
            (4, 5, 6),
            (7, 8, 9),
            seen,
            ((2.0, 1.0), None, (1.0, 2.0)),
        )
        kind = SimpleNamespace(control=name == "chance", white_box=name == "white")
        folder = store.once("attack", {"name": name}, prompts.save)
        found[name] = Attacked(kind, prompts, folder)
    return found


def images(store, neighbours: bool = True):
    """The images that the metrics need, and those of both attacks."""
    model = Model()
    wanted = {ImageRequest("plain", name): PLAIN for name in BOTH}
    wanted |= {ImageRequest(f"attack:{name}"): attacked_prompts(name) for name in FOUND}
    if neighbours:
        wanted[ImageRequest("neighbour", "original")] = NEIGHBOURS
    return {request: generate(store, model, request, prompts=each) for request, each in wanted.items()}
