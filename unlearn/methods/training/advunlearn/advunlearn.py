"""Erasure by adversarial training of the text encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError, unknown
from unlearn.methods.captions import captions, everyday, without
from unlearn.methods.method import Context, finished, of_other_kinds
from unlearn.methods.training.advunlearn.soft_prompt import Slots, SoftPrompt
from unlearn.methods.training.loop import Composed, fit
from unlearn.methods.training.material.pool import shuffled
from unlearn.methods.training.material.states import States, draw, once
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import matching, select
from unlearn.settings import setting


@dataclass(kw_only=True)
class AdvUnlearn(Trained):
    r"""Trains the text encoder to steer away from a concept under prompts that are made to bring it back.

    With :math:`\phi` the original weights and :math:`\theta` the trained ones, each step first looks for
    token embeddings :math:`\delta` before the concept's sentence :math:`c` under which the model does what
    the original one does without them (:class:`~unlearn.methods.training.advunlearn.soft_prompt.SoftPrompt`),
    and then goes down

    .. math::
        \| \epsilon_\theta(x_t, t, [\delta; c]) - [ \epsilon_\phi(x_t, t, \varnothing)
        - \eta ( \epsilon_\phi(x_t, t, c) - \epsilon_\phi(x_t, t, \varnothing) ) ] \|^2
        + \gamma \, \| \epsilon_\theta(x_t, t, p) - \epsilon_\phi(x_t, t, p) \|^2

    over sentences :math:`c` with the concept and captions :math:`p` without it. In the first ``warmup`` steps
    there is no :math:`\delta`. Norms are means. What is trained can be the denoiser as well, by
    ``parameters``; the text encoder alone fits every checkpoint that has the same one.

    All :math:`x_t` come from trajectories that the original model draws, once, before training, each taken at
    the timestep that it stands at. The three frozen predictions of the loss are those that guidance needed on
    the way. So a step of the attack is one forward and one backward pass, and so is a training step, with
    the concept and the captions in one batch. In the authors' code each of them draws a trajectory of its own
    and predicts anew. Its latents are 39 to 58 timesteps cleaner than the timestep they are evaluated at, and
    concept and captions share a timestep in each step; where the denoiser is trained, it draws with the
    weights under training. Its captions are 243 of objects, from which a language model has taken what is
    near the concept. Here they are what is retained, in the concept's sentences or the packaged ones, and
    unrelated words and objects in packaged ones; none that names an erased phrase. Only the sum of both
    losses is offered, which the paper uses, and not their alternation.

    The released code, moreover, takes the number of words of a prompt for that of its tokens, so that it
    trains against "nu" where "nudity" is erased, never clears the gradient of the attack, and trains on the
    perturbation as it was before the last step, which is none where there is one step only.
    ``advunlearn_released`` does all three. Its choice of the first layers 0 and 1 trains 10 and 11, too, for
    their names begin alike; :attr:`layers` is a number.

    References:
        | Defensive Unlearning with Adversarial Training for Robust Concept Erasure in Diffusion Models
        | (Zhang et al., 2024)
        | https://arxiv.org/abs/2405.15234

    Attributes:
        layers: Train only parameters in the first so many layers; None trains all of :attr:`parameters`.
        negative_guidance: :math:`\eta`.
        retain_scale: :math:`\gamma` by kind of concept; where kinds are erased together, the mean over a
            step's sentences.
        warmup: Steps without an attack.
        batch_size: Sentences with the concept in each step, each with a perturbation of its own.
        retain_batch_size: Captions in each step.
        retain_sentences: Sentences around each phrase that is retained, and around unrelated words.
        retain_objects: Retain photos of 230 everyday objects, too, as far as their names share no word with
            the concept.
        trajectories: Drawn for sentences with the concept, as many for each; more if they do not divide so.
        retain_trajectories: Drawn for captions.
        states: Latents taken from each trajectory, at different timesteps.
        attack: How perturbations are found.
        sampler: How the trajectories are drawn.
    """

    paper: ClassVar[str] = "2405.15234"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention", "text_encoder"})

    layers: int | None = setting(least=1, null="all")
    negative_guidance: float = setting(least=0)
    retain_scale: dict[str, float] = setting(least=0)
    warmup: int = setting(least=0, unit="optimizer steps")
    retain_batch_size: int = setting(least=1)
    retain_sentences: int = setting(least=1)
    retain_objects: bool
    trajectories: int = setting(least=1)
    retain_trajectories: int = setting(least=1)
    states: int = setting(least=1)
    attack: SoftPrompt

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.warmup < self.steps:
            raise ValueError(
                f"warmup: must be from 0 to below the {self.steps} steps, or nothing is attacked, "
                f"got {self.warmup}"
            )
        if self.states > self.sampler.steps:
            raise ValueError(f"states: a trajectory has {self.sampler.steps} steps, got {self.states}")

    @property
    def reads(self) -> frozenset[str]:
        """The kind in place of the anchor."""
        return frozenset({"retain", "templates", "kind"})

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Other kinds, and what the attack has no use for."""
        found = of_other_kinds("retain_scale", self.retain_scale, concepts)
        if self.attack.place == "add":
            found["attack.tokens"] = "It counts with attack.place=prefix."
        if self.attack.steps == 1:
            found["attack.accumulate"] = "It counts with attack.steps above 1."
        return found

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Draws what the original model does, then attacks and trains in turn."""
        self.check(model, concepts)
        scales = self.scales(concepts)
        trained = self.trained(model)
        slots = self.attack.slots(model, list(scales))
        kept = captions(concepts, self.retain_sentences)
        kept += [caption for caption in everyday(concepts) if self.retain_objects and caption not in kept]
        if not (kept := without(concepts, kept)):
            raise ConfigError(
                f"method.retain_sentences: all captions of {self.retain_sentences} sentences name an erased "
                "phrase. More have other words."
            )
        order = torch.randperm(len(kept), generator=context.generator("advunlearn", "captions")).tolist()
        kept = [kept[i] for i in order[: self.retain_trajectories]]
        states = self.drawn(model, list(scales), kept, context)
        with select(model, trained) as selection:
            duel = Duel(
                method=self,
                model=model,
                parameters=list(selection.parameters.values()),
                states=states,
                slots=slots,
                captions=model.tokenize(kept),
                gamma=torch.tensor(list(scales.values())),
                context=context,
                latest=Latest(),
            )
            history = fit(selection, duel.step, self.steps, self.optimizer, context, {"attack": duel.latest})
            return finished(selection, history)

    def target(self, states: States) -> Tensor:
        """Where to turn the predictions for the concept, with shape :math:`(N, C, h, w)`."""
        away = states.conditional - states.unconditional
        return states.unconditional - self.negative_guidance * away

    def scales(self, concepts: ConceptSet) -> dict[str, float]:
        r""":math:`\gamma` of every sentence with the concept.

        Raises:
            ConfigError: If a kind of concept has none.
        """
        found: dict[str, float] = {}
        for name, concept in concepts.erase.items():
            if concept.kind not in self.retain_scale:
                known = unknown("kind", concept.kind, self.retain_scale)
                raise ConfigError(f"method.retain_scale: for concept '{name}': {known}")
            found |= {sentence: self.retain_scale[concept.kind] for sentence, _ in concept.pairs}
        return found

    def trained(self, model: DiffusionModel) -> list[str]:
        """Full names of the parameters to train.

        Raises:
            ConfigError: If :attr:`parameters` match none, or :attr:`layers` leaves none of them or asks for
                more than there are.
        """
        names = list(matching(model, self.parameters))
        if self.layers is None:
            return names
        numbers = {name: int(found[1]) for name in names if (found := re.search(r"\.layers\.(\d+)\.", name))}
        if not 1 <= self.layers <= (count := 1 + max(numbers.values(), default=-1)):
            raise ConfigError(
                f"method.layers: {self.parameters} has {count} layers, got {self.layers}. Null trains all."
            )
        return [name for name, number in numbers.items() if number < self.layers]

    def drawn(self, model: DiffusionModel, sentences: list[str], kept: list[str], context: Context) -> States:
        """What the original model does, from the scratch folder if a killed run left it there.

        Arguments:
            sentences: With the concept, :math:`P`.
            kept: Captions.

        Returns:
            States by trajectory, first those of the sentences in turn and then those of the captions.
        """
        which = [i % len(sentences) for i in range(self.rounds(len(sentences)) * len(sentences))]
        which += [len(sentences) + i % len(kept) for i in range(self.retain_trajectories)]

        def make() -> dict[str, Tensor]:
            with torch.no_grad():
                prompts = model.encode(["", *sentences, *kept])
            random = context.generator("advunlearn", "stops")
            steps = self.sampler.steps
            stops = [torch.randperm(steps, generator=random)[: self.states].tolist() for _ in which]
            seeds = [context.derive_seed("advunlearn", "noise", i) for i in range(len(which))]
            return vars(draw(model, prompts, which, stops, seeds, self.sampler))

        return States(**once(context.scratch / "states.safetensors", make, context.meter))

    def rounds(self, sentences: int) -> int:
        """Trajectories for each of so many sentences."""
        return -(-self.trajectories // sentences)


@dataclass
class Latest:
    """The last perturbation, with shape :math:`(B, k, E)`; None before the first attack."""

    perturbation: Tensor | None = None

    def state_dict(self) -> dict[str, Any]:
        """The perturbation, if there is one."""
        return {} if self.perturbation is None else {"perturbation": self.perturbation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes that back."""
        self.perturbation = state.get("perturbation")


@dataclass(frozen=True)
class Duel:
    r"""One training: what both sides of it know.

    Attributes:
        method: How they play.
        model: The model under training.
        parameters: What is trained.
        states: What the original model did; see :meth:`AdvUnlearn.drawn`.
        slots: The sentences with the concept, :math:`P`.
        captions: Token ids of the captions, with shape :math:`(R, L)`.
        gamma: :math:`\gamma` of each sentence, with shape :math:`(P,)`.
        context: Where random numbers come from.
        latest: The last perturbation.
    """

    method: AdvUnlearn
    model: DiffusionModel
    parameters: list[Tensor]
    states: States
    slots: Slots
    captions: Tensor
    gamma: Tensor
    context: Context
    latest: Latest

    def step(self, step: int) -> Composed:
        """An attack, if one is due, and then the gradients of the defence."""
        how, count = self.method, len(self.gamma)
        turn = self.context.generator("advunlearn", "turn", step // how.attack.every)
        chosen = torch.randint(count, (how.batch_size,), generator=turn)
        slots = self.slots[chosen.to(self.model.device)]
        random = self.context.generator("advunlearn", "step", step)
        values = {}
        if step >= how.warmup and (step % how.attack.every == 0 or self.latest.perturbation is None):
            values["attack"] = self.attack(chosen, slots, random)
        captions = shuffled(
            how.retain_trajectories, how.retain_batch_size, step, self.context, "advunlearn", "captions"
        )
        erase, retain = self.losses(chosen, slots, captions, random)
        loss = erase + self.gamma[chosen].mean().item() * retain
        gradients = gradients_of(loss, self.parameters)
        values |= {"loss": loss.item(), "erase": erase.item(), "retain": retain.item()}
        return Composed(gradients, values)

    def attack(self, chosen: Tensor, slots: Slots, random: Generator) -> float:
        """Replaces the last perturbation by one for the chosen sentences; returns its loss."""
        how, model = self.method.attack, self.model

        def loss(_step: int, perturbation: Tensor) -> Tensor:
            states = self.visited(self.trajectories(chosen.repeat(how.draws), random), random)
            conditioning = model.encode_embeddings(how.embed(model, slots, perturbation))
            predicted = model.predict(states.latents, states.timesteps, conditioning.repeat(how.draws))
            # A sum over sentences: none has a smaller gradient for being attacked with others.
            return len(chosen) * (predicted - states.conditional).square().mean()

        start = how.begin(model, slots, self.latest.perturbation, random)
        self.latest.perturbation, last = how.descend(start, loss)
        return last / len(chosen)

    def losses(
        self, chosen: Tensor, slots: Slots, captions: Tensor, random: Generator
    ) -> tuple[Tensor, Tensor]:
        """The erasing and the retaining loss, from one forward pass: each with shape :math:`()`.

        Arguments:
            chosen: Number of each sentence, with shape :math:`(B,)`.
            slots: The same sentences.
            captions: Number of each caption's trajectory among those of captions.
        """
        how, model, perturbation = self.method, self.model, self.latest.perturbation
        own = how.rounds(len(self.gamma)) * len(self.gamma)
        states = self.visited(torch.cat([self.trajectories(chosen, random), own + captions]), random)
        said = self.captions[(states.prompts[len(chosen) :] - len(self.gamma)).to(self.captions.device)]
        asked = (
            model.embed(slots.plain) if perturbation is None else how.attack.embed(model, slots, perturbation)
        )
        conditioning = model.encode_embeddings(torch.cat([asked, model.embed(said)]))
        predicted = model.predict(states.latents, states.timesteps, conditioning)
        target = torch.cat([how.target(states)[: len(chosen)], states.conditional[len(chosen) :]])
        squared = (predicted - target).square()
        return squared[: len(chosen)].mean(), squared[len(chosen) :].mean()

    def trajectories(self, chosen: Tensor, random: Generator) -> Tensor:
        """A random trajectory for each of the chosen sentences, with shape :math:`(B,)`."""
        count = len(self.gamma)
        rounds = torch.randint(self.method.rounds(count), chosen.shape, generator=random)
        return chosen + count * rounds

    def visited(self, trajectories: Tensor, random: Generator) -> States:
        """A random state of each trajectory, on the model's device."""
        each = self.method.states
        rows = trajectories * each + torch.randint(each, trajectories.shape, generator=random)
        return self.states[rows].to(self.model.device)
