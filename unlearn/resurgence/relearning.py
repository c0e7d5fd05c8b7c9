"""Training an erased model on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import ClassVar

import torch
from torch import Tensor, nn

from unlearn.concepts.concept import PROMPT_TEMPLATES, UNRELATED, ConceptSet, PromptSet
from unlearn.concepts.sentences import fill
from unlearn.errors import UnlearnError
from unlearn.methods.captions import without
from unlearn.methods.method import Context
from unlearn.methods.training.loop import Optimizer, fit
from unlearn.methods.training.material.aligned import Images, drawn
from unlearn.methods.training.material.pool import Noised, shuffled
from unlearn.methods.training.membranes import Layers
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler
from unlearn.models.weights.adapters import adapted
from unlearn.models.weights.parameters import Selection, select
from unlearn.resurgence.resurgence import Place, Resurgence, Show, Subject
from unlearn.settings import setting

#: Puts what is trained besides the weights into the model, while the block lasts.
Added = Callable[[], AbstractContextManager[None]]

DATA = ("concept", "neighbours", "unrelated")


@dataclass(kw_only=True)
class Relearning(Resurgence):
    r"""Trains the erased model on, as anybody may who has its weights, and looks at it on the way.

    The loss is that of ordinary fine-tuning, on images :math:`x` that the original model drew for sentences
    :math:`c`,

    .. math:: \| \epsilon_\theta(x_t, t, c) - \epsilon \|^2 ,

    with the erased model's own text encoder. There is one training; images are drawn whenever it has taken as
    many steps as a place says. No sentence of the training is one of the prompts that are drawn.

    That a concept is back after ten steps on its images proves little by itself: a model that has never seen
    it may learn it as fast. Training on images that do not show it (``neighbours``, ``unrelated``) tells what
    the erased model still knows, and is the control of the other.

    What a method leaves in the text encoder stays there unless ``parameters`` opens it. A guard is on while
    images are drawn, and is not part of the training. Whoever has the weights can also put the original text
    encoder back, or leave the guard out: these ways are not measured.

    References:
        | Unstable Unlearning: The Hidden Risk of Concept Resurgence in Diffusion Models
        | (Suriyakumar et al., 2024)
        | https://arxiv.org/abs/2410.08074

    Attributes:
        data: What the images show: the ``concept``; ``neighbours``, what methods are given to retain; or
            ``unrelated`` things.
        images: How many images there are.
        parameters: What is trained: names of selections or patterns over parameter names.
        rank: Rank of a low-rank addition (LoRA) to each of the layers, which is trained in their place; None
            trains the weights themselves.
        steps: Numbers of optimizer steps after which images are drawn, rising.
        batch_size: Images in each step.
        optimizer: How each step is taken.
        sampler: How the images to train on are drawn.
    """

    paper: ClassVar[str] = "2410.08074"
    axis: ClassVar[str] = "steps"
    both: ClassVar[bool] = False

    data: str = setting(choices=DATA)
    images: int = setting(least=1)
    parameters: list[str]
    rank: int | None = setting(least=1, null="none")
    steps: list[int] = setting(least=1, shape="rising", unit="optimizer steps")
    batch_size: int = setting(least=1)
    optimizer: Optimizer
    sampler: Sampler

    @property
    def reads(self) -> frozenset[str]:
        """The sentences that it is trained on."""
        return frozenset(
            {"concept": {"templates"}, "neighbours": {"retain", "templates"}, "unrelated": ()}[self.data]
        )

    def origin(self, sampler: Sampler) -> Place:  # noqa: ARG002
        """Before the first step."""
        return Place(0, "0")

    def places(self, sampler: Sampler) -> list[Place]:  # noqa: ARG002
        """The numbers of steps."""
        return [Place(steps, str(steps)) for steps in self.steps]

    def visit(self, subject: Subject, context: Context, show: Show) -> None:
        """Trains, and shows the model on the way."""
        model = subject.model
        sentences = self.sentences(subject.concepts, subject.prompts, context)
        images = drawn(model, sentences, "images", self.sampler, context)
        place_of = {steps: place for place, steps in enumerate(self.steps)}
        with model.erased(subject.erasure), self.opened(model, context) as (selection, added):
            told = list(dict.fromkeys(sentences))
            learns_words = any(name.startswith("text_encoder") for name in selection.parameters)
            with torch.no_grad():
                images = replace(images, sentences=model.encode(told))

            def loss(step: int) -> Tensor:
                if step in place_of:
                    with added():
                        show(place_of[step])
                now = replace(images, sentences=model.encode(told)) if learns_words else images
                with added():
                    return self.loss(model, now, step, context)

            fit(selection, loss, self.steps[-1], self.optimizer, context)
            with added():
                show(len(self.steps) - 1)

    def loss(self, model: DiffusionModel, images: Images, step: int, context: Context) -> Tensor:
        """The loss of one step, with shape :math:`()`.

        Raises:
            UnlearnError: If it is not finite.
        """
        chosen = shuffled(len(images.rows), self.batch_size, step, context, "relearning")
        clean, sentences = images.batch(chosen)
        noised = Noised.draw(model, clean, context.generator("relearning", "step", step))
        predicted = model.predict(noised.latents, noised.timesteps, sentences)
        loss = (predicted - noised.target).square().mean()
        if not bool(loss.isfinite()):
            raise UnlearnError(
                f"resurgence: the loss is {loss.item()} at step {step} of {self.steps[-1]} on images of "
                f"'{self.data}'. Lower optimizer.lr of that curve (now {self.optimizer.lr:g})."
            )
        return loss

    def sentences(self, concepts: ConceptSet, prompts: PromptSet, context: Context) -> list[str]:
        """What each image shows: sentences in random order, over and over if there are few."""
        texts = self.texts(concepts, prompts)
        order = shuffled(len(texts), self.images, 0, context, "relearning", "sentences")
        return [texts[i] for i in order.tolist()]

    def texts(self, concepts: ConceptSet, prompts: PromptSet) -> list[str]:
        """The sentences that it is trained on, none of which is among ``prompts``."""
        if self.data == "concept":
            own = [[old for old, _ in concept.sentence_pairs()] for concept in concepts.erase.values()]
            found = [text for turn in zip_longest(*own) for text in turn if text is not None]
        elif self.data == "neighbours":
            found = without(concepts, concepts.retained_sentences())
        else:
            pairs = ((template, word) for template in PROMPT_TEMPLATES["object"] for word in UNRELATED)
            found = without(concepts, (fill(template, word) for template, word in pairs))
        asked = set(prompts.prompts)
        return [text for text in dict.fromkeys(found) if text not in asked]

    def check(self, sampler: Sampler, concepts: ConceptSet, prompts: PromptSet) -> list[str]:  # noqa: ARG002
        """Whether there is anything to train on."""
        if self.texts(concepts, prompts):
            return []
        return [f"data: the concept has no sentences for '{self.data}' that are none of the plain prompts"]

    @contextmanager
    def opened(self, model: DiffusionModel, context: Context) -> Iterator[tuple[Selection, Added]]:
        """What is trained, and what has to be on while the model predicts.

        Raises:
            ConfigError: If a pattern matches no parameter, or one that no low-rank addition fits.
        """
        if self.rank is None:
            with select(model, self.parameters) as selection:
                yield selection, nullcontext
            return
        layers = Layers.of(model, self.parameters, self.rank)
        start = layers.start(context.generator("relearning", "start"))
        addition = nn.Parameter(start.to(model.device))
        yield Selection({"addition": addition}), lambda: adapted(model, layers.factors(addition))
