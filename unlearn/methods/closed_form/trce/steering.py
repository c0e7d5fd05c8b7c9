"""The second stage of TRCE: steering the early steps of denoising."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearn.concepts.concept import PROMPT_TEMPLATES, ConceptSet
from unlearn.methods.method import Context, finished
from unlearn.methods.training.loop import Optimizer, fit
from unlearn.methods.training.material import states
from unlearn.methods.training.material.states import States
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler
from unlearn.models.weights.parameters import Selection, select
from unlearn.settings import Settings, setting


@dataclass(kw_only=True)
class Steering(Settings):
    r"""Turns predictions on the way to a concept towards the way to its anchor.

    On latents :math:`x_t` from early steps of trajectories that the original model :math:`\phi` drew for a
    sentence :math:`c` with the concept, with :math:`s` the same sentence with its anchor, the original's
    guided predictions are one to prefer and one to reject,

    .. math::
        p = \epsilon_\phi(s) + \eta \, (\epsilon_\phi(s) - \epsilon_\phi(\varnothing)), \qquad
        q = \epsilon_\phi(c) + \eta \, (\epsilon_\phi(c) - \epsilon_\phi(\varnothing)) ,

    and the trained predictions :math:`u = \epsilon_\theta(x_t, t, c)` and :math:`\epsilon_\theta(x_t, t,
    \varnothing)` each have the loss :math:`h(u) = \max(0, d(u) + m)` with

    .. math:: d(u) = \overline{(u - p)^2} - \overline{(u - q)^2} = \overline{(q - p) (2 u - p - q)} .

    It is linear in :math:`u`: its gradient is :math:`2 (q - p) / n = 2 (1 + \eta) (\epsilon_\phi(c) -
    \epsilon_\phi(s)) / n` for :math:`n` numbers, or 0 once :math:`u` is past the middle by the margin. So of
    the original's three predictions only :math:`q - p` and one number are kept. Predictions without a prompt
    are held, on latents from all steps of unconditional trajectories, at what they are after the first stage.

    Both data sets are drawn before training: each trajectory once, the latents of all visits and no others,
    unconditional ones in one branch. The authors store 2,000 whole unconditional trajectories and three
    predictions a step are made anew in each visit. They pair a latent with the timestep before its own and
    move the timestep of unconditional ones at random within a step; here latents and timesteps belong
    together.

    Attributes:
        parameters: What is trained: names of selections or patterns over parameter names.
        kinds: Kinds of concept that are steered.
        sentences: Sentences around each phrase that trajectories are drawn for.
        eta: :math:`\eta`, how far beyond the plain predictions the middle lies.
        margin: :math:`m`.
        preserve_scale: Weight of the loss on unconditional predictions.
        steps: Optimizer steps.
        batch_size: Latents of the concept in each step.
        preserve_batch_size: Unconditional latents in each step.
        states: Latents taken from each trajectory, at different timesteps.
        early: How many steps of a trajectory count as early.
        optimizer: How each step is taken.
        sampler: How the trajectories are drawn.
    """

    parameters: list[str]
    kinds: list[str] = setting(choices=PROMPT_TEMPLATES, kind="kind of concept")
    sentences: int = setting(least=1)
    eta: float = setting(least=0)
    margin: float = setting(least=0)
    preserve_scale: float = setting(least=0)
    steps: int = setting(least=1)
    batch_size: int = setting(least=1)
    preserve_batch_size: int = setting(least=1)
    states: int = setting(least=1)
    early: int = setting(least=1, unit="denoising steps")
    optimizer: Optimizer
    sampler: Sampler

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.early <= self.sampler.steps:
            raise ValueError(
                f"early: must be from 1 to the {self.sampler.steps} steps of a trajectory, got {self.early}"
            )
        if self.states > self.early:
            raise ValueError(f"states: a trajectory has {self.early} early steps, got {self.states}")

    def pairs(self, concepts: ConceptSet) -> list[tuple[str, str]]:
        """Every sentence to steer away from, and the one to steer towards."""
        chosen = [concept for concept in concepts.erase.values() if concept.kind in self.kinds]
        return [pair for concept in chosen for pair in concept.sentence_pairs(self.sentences)]

    def steer(
        self, model: DiffusionModel, concepts: ConceptSet, edited: Selection, context: Context
    ) -> Erasure:
        """Trains the selected parameters beside those that the first stage has edited.

        Arguments:
            model: The model after the first stage.
            concepts: What is erased.
            edited: What the first stage has edited, and how to have it back.
        """
        pairs = self.pairs(concepts)
        with torch.no_grad():
            empty = model.encode([""])
            concept = model.encode([old for old, _ in pairs])
            anchor = model.encode([new for _, new in pairs])

        def make() -> dict[str, Tensor]:
            with edited.original():
                contrasts = self.contrasts(model, Conditioning.cat([empty, concept]), anchor, context)
                unconditional = self.unconditional(model, empty, context)
            # The model after the first stage is the one to hold on to: K and V are edited here.
            held = _predicted(model, unconditional, empty, self.sampler.batch_size)
            rest = {"latents": unconditional.latents, "timesteps": unconditional.timesteps, "held": held}
            return {f"concept.{name}": value for name, value in contrasts.items()} | {
                f"empty.{name}": value for name, value in rest.items()
            }

        data = {
            name: tensor.to(model.device)
            for name, tensor in states.once(
                context.scratch / "steering.safetensors", make, context.meter
            ).items()
        }

        def loss(step: int) -> Tensor:
            return self.loss(model, data, empty, concept, step)

        with select(model, self.parameters) as selection:
            return finished(selection, fit(selection, loss, self.steps, self.optimizer, context))

    def loss(
        self,
        model: DiffusionModel,
        data: dict[str, Tensor],
        empty: Conditioning,
        concept: Conditioning,
        step: int,
    ) -> Tensor:
        """The loss of one step, from one forward pass: shape :math:`()`.

        Arguments:
            data: ``concept.…`` as :meth:`contrasts` gives them; ``empty.latents``, ``empty.timesteps`` and
                ``empty.held``, the predictions to hold on to.
            empty: The empty prompt.
            concept: The sentences with the concept.
        """
        visits = slice(step * self.batch_size, (step + 1) * self.batch_size)
        others = slice(step * self.preserve_batch_size, (step + 1) * self.preserve_batch_size)
        x, t, away = (data[f"concept.{key}"][visits] for key in ("latents", "timesteps", "away"))
        prompts = concept[data["concept.prompts"][visits].tolist()]
        predicted = model.predict(
            torch.cat([x, x, data["empty.latents"][others]]),
            torch.cat([t, t, data["empty.timesteps"][others]]),
            Conditioning.cat([prompts, empty.repeat(self.batch_size + self.preserve_batch_size)]),
        )
        steered, kept = predicted[: 2 * self.batch_size], predicted[2 * self.batch_size :]
        offset = data["concept.offset"][visits]
        hinge = (distance(steered, away.repeat(2, 1, 1, 1), offset.repeat(2)) + self.margin).clamp(min=0)
        held: Tensor = (kept - data["empty.held"][others]).square().mean()
        return hinge.mean() + self.preserve_scale * held

    def contrasts(
        self, model: DiffusionModel, prompts: Conditioning, anchor: Conditioning, context: Context
    ) -> dict[str, Tensor]:
        """Early latents of trajectories for the concept, and where to steer on them.

        Arguments:
            model: The original model.
            prompts: The empty prompt, and the sentences with the concept.
            anchor: The same sentences with its anchor.

        Returns:
            ``latents`` and ``away``, that is :math:`q - p`, with shape :math:`(N, C, h, w)`; ``timesteps``,
            ``prompts`` and ``offset`` with shape :math:`(N,)`; in the order of the visits, on the CPU.
        """
        visits = self.steps * self.batch_size
        drawn = self._drawn(model, prompts, len(anchor), visits, self.early, context)
        preferred = _predicted(model, drawn, anchor, self.sampler.batch_size)
        away, offset = contrast(preferred, drawn.conditional, drawn.unconditional, self.eta)
        return {
            "latents": drawn.latents,
            "timesteps": drawn.timesteps,
            "prompts": drawn.prompts,
            "away": away,
            "offset": offset,
        }

    def unconditional(self, model: DiffusionModel, empty: Conditioning, context: Context) -> States:
        """Latents of all steps of trajectories without a prompt, in the order of the visits.

        Arguments:
            model: The original model.
            empty: The empty prompt.
        """
        visits = self.steps * self.preserve_batch_size
        return self._drawn(model, empty, 0, visits, self.sampler.steps, context)

    def _drawn(
        self,
        model: DiffusionModel,
        prompts: Conditioning,
        sentences: int,
        visits: int,
        steps: int,
        context: Context,
    ) -> States:
        """So many states out of the first ``steps`` steps, in random order; without sentences for none."""
        name = "concept" if sentences else "empty"
        random = context.generator("trce", name)
        trajectories = range(-(-visits // self.states))
        drawn = states.draw(
            model,
            prompts,
            which=[i % sentences if sentences else -1 for i in trajectories],
            stops=[torch.randperm(steps, generator=random)[: self.states].tolist() for _ in trajectories],
            seeds=[context.derive_seed("trce", name, i) for i in trajectories],
            sampler=self.sampler if sentences else replace(self.sampler, guidance=1.0),
        )
        return drawn[torch.randperm(len(drawn), generator=random)[:visits]]


def contrast(safe: Tensor, bad: Tensor, empty: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    r"""What :func:`distance` needs to know of the original's three predictions.

    Arguments:
        safe: :math:`\epsilon_\phi(s)`, with shape :math:`(N, C, h, w)`.
        bad: :math:`\epsilon_\phi(c)`, with the same shape.
        empty: :math:`\epsilon_\phi(\varnothing)`, with the same shape.
        eta: :math:`\eta`.

    Returns:
        :math:`q - p`, with shape :math:`(N, C, h, w)`, and :math:`\overline{q^2} - \overline{p^2}`, with
        shape :math:`(N,)`.
    """
    away = (1 + eta) * (bad - safe)
    both = (1 + eta) * (bad + safe) - 2 * eta * empty
    return away, (away * both).mean(dim=(1, 2, 3))


def distance(predicted: Tensor, away: Tensor, offset: Tensor) -> Tensor:
    """How much nearer a prediction is to the rejected one than to the preferred one: shape :math:`(N,)`."""
    return 2 * (away * predicted).mean(dim=(1, 2, 3)) - offset


@torch.no_grad()
def _predicted(model: DiffusionModel, drawn: States, prompts: Conditioning, batch_size: int) -> Tensor:
    """Predictions on all states under their prompts, with shape :math:`(N, C, h, w)`, on the CPU."""
    rows = torch.arange(len(drawn))
    chunks = [drawn[rows[i : i + batch_size]] for i in range(0, len(drawn), batch_size)]
    return torch.cat(
        [
            model.predict(
                chunk.latents.to(model.device),
                chunk.timesteps.to(model.device),
                prompts[chunk.prompts.clamp(min=0).tolist()],
            ).cpu()
            for chunk in chunks
        ]
    )
