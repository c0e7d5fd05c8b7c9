"""Other ways of drawing from an erased model."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.methods.method import Context
from unlearn.methods.training.material.pool import clean_latents
from unlearn.methods.training.material.states import once
from unlearn.models.sampling import SCHEDULERS, Sampler, Start
from unlearn.resurgence.resurgence import Place, Resurgence, Show, Subject
from unlearn.settings import setting


class _Redrawn(Resurgence):
    """Draws with other samplers than the model's own, each a place."""

    @abstractmethod
    def samplers(self, sampler: Sampler) -> list[Sampler]:
        """The samplers, without the model's own."""

    def visit(self, subject: Subject, context: Context, show: Show) -> None:  # noqa: ARG002
        """Draws with each."""
        with subject.model.erased(subject.erasure):
            for place, sampler in enumerate(self.samplers(subject.sampler)):
                show(place, sampler)

    def check(self, sampler: Sampler, concepts: ConceptSet, prompts: PromptSet) -> list[str]:  # noqa: ARG002
        """Whether there is any sampler but the model's own."""
        return [] if self.samplers(sampler) else [self._lacking(sampler)]

    @abstractmethod
    def _lacking(self, sampler: Sampler) -> str:
        """What to say where there is none but ``sampler``, the model's own."""


@dataclass(kw_only=True)
class OtherSamplers(_Redrawn):
    """Draws with other schedulers, and in other numbers of steps.

    A guard whose settings count steps, and an erasure that was trained at the timesteps of one scheduler, may
    hold for that one alone.

    Attributes:
        schedulers: ``ddim``, ``euler``, ``pndm`` or ``dpm++``, each in the model's own number of steps.
        steps: Numbers of steps of the model's own scheduler.
    """

    axis: ClassVar[str] = "sampler"

    schedulers: list[str] = setting(choices=SCHEDULERS, kind="scheduler")
    steps: list[int] = setting(least=1, unit="denoising steps")

    def samplers(self, sampler: Sampler) -> list[Sampler]:
        """The samplers, without the model's own."""
        found = [replace(sampler, scheduler=name) for name in dict.fromkeys(self.schedulers)]
        found += [replace(sampler, steps=steps) for steps in dict.fromkeys(self.steps)]
        return [one for one in found if one != sampler]

    def origin(self, sampler: Sampler) -> Place:
        """The model's own sampler."""
        return Place(0, _said(sampler))

    def places(self, sampler: Sampler) -> list[Place]:
        """The samplers."""
        return [Place(number, _said(one)) for number, one in enumerate(self.samplers(sampler), start=1)]

    def _lacking(self, sampler: Sampler) -> str:
        return f"schedulers: need one besides the model's own ({_said(sampler)}), and so do steps"


@dataclass(kw_only=True)
class OtherGuidance(_Redrawn):
    """Draws with other scales of classifier-free guidance.

    What is left of a concept in the conditional prediction is drawn out by a large scale.

    Attributes:
        scales: Guidance scales; 1 turns guidance off. The model's own is measured besides.
    """

    axis: ClassVar[str] = "guidance scale"

    scales: list[float] = setting(least=0, shape="once")

    def samplers(self, sampler: Sampler) -> list[Sampler]:
        """The model's own with each of the other scales."""
        return [replace(sampler, guidance=place.at) for place in self.places(sampler)]

    def origin(self, sampler: Sampler) -> Place:
        """The model's own scale."""
        return Place(sampler.guidance, f"{sampler.guidance:g}")

    def places(self, sampler: Sampler) -> list[Place]:
        """The scales, without the model's own."""
        return [Place(scale, f"{scale:g}") for scale in self.scales if scale != sampler.guidance]

    def _lacking(self, sampler: Sampler) -> str:
        return f"scales: needs one besides the model's own, {sampler.guidance:g}"


@dataclass(kw_only=True)
class StartImages(Resurgence):
    """Starts from images of the concept instead of noise (img2img, SDEdit).

    The original model draws an image for each prompt, with a seed of its own; noise is added, and the erased
    model takes the last steps. The fewer they are, the more of the image stays whatever the model knows: a
    curve says something only beside another method's.

    References:
        | SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations
        | (Meng et al., 2021)
        | https://arxiv.org/abs/2108.01073

    Attributes:
        strengths: Shares of the denoising steps that are run, from the largest down.
    """

    paper: ClassVar[str] = "2108.01073"
    axis: ClassVar[str] = "strength"

    strengths: list[float] = setting(above=0, most=1, shape="falling")

    def origin(self, sampler: Sampler) -> Place:  # noqa: ARG002
        """Pure noise: one above all strengths in use."""
        return Place(1, "noise")

    def places(self, sampler: Sampler) -> list[Place]:  # noqa: ARG002
        """The strengths."""
        return [Place(strength, f"{strength:g}") for strength in self.strengths]

    def visit(self, subject: Subject, context: Context, show: Show) -> None:
        """Draws the images with the original model, and starts from them."""
        model, texts = subject.model, subject.prompts.prompts
        distinct = list(dict.fromkeys(texts))
        seeds = [context.derive_seed("start", seed) for seed in subject.prompts.seeds]

        def make() -> dict[str, Tensor]:
            with torch.no_grad():
                encoded = model.encode(distinct)
            rows = [distinct.index(text) for text in texts]
            return {"images": clean_latents(model, encoded, rows, seeds, subject.sampler)}

        images = once(context.scratch / "start.safetensors", make, context.meter)["images"]
        with model.erased(subject.erasure):
            for place, strength in enumerate(self.strengths):
                show(place, start=Start(images, strength))

    def check(self, sampler: Sampler, concepts: ConceptSet, prompts: PromptSet) -> list[str]:  # noqa: ARG002
        """Whether each strength leaves a step."""
        few = [strength for strength in self.strengths if int(sampler.steps * strength) < 1]
        return [f"strengths: must leave at least one of {sampler.steps} steps, got {few[0]:g}"] if few else []


def _said(sampler: Sampler) -> str:
    return f"{sampler.scheduler}, {sampler.steps}"
