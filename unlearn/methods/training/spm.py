"""One-dimensional adapter: semi-permeable membranes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ArtifactError
from unlearn.methods.captions import captions, without
from unlearn.methods.method import Context, finished
from unlearn.methods.subspaces import contents
from unlearn.methods.training.loop import fit
from unlearn.methods.training.material.states import States, once, scattered
from unlearn.methods.training.membranes import Layers
from unlearn.methods.training.trained import Trained
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.weights.adapters import Strengths, adapted, added
from unlearn.models.weights.parameters import Selection, select
from unlearn.settings import setting

ANCHORS = ("noise", "captions")


@dataclass(kw_only=True)
class SPM(Trained):
    r"""Trains one adapter of rank 1 for each concept, which lets pass what a prompt has of that concept.

    A membrane :math:`m` adds :math:`B A x` to each linear layer :math:`W x` of the denoiser's transformers.
    With :math:`\phi` the original weights, which stay, the loss of concept :math:`c` is

    .. math::
        \| \epsilon_{\phi + m}(x_t, t, c) - [ \epsilon_\phi(x_t, t, \varnothing)
        - \eta ( \epsilon_\phi(x_t, t, c) - \epsilon_\phi(x_t, t, \varnothing) ) ] \|^2
        + \lambda \, \| \epsilon_{\phi + m}(x_t, t, e) - \epsilon_\phi(x_t, t, e) \|^2

    with other embeddings :math:`e` in each step (latent anchoring). While sampling, each prompt :math:`p`
    takes each membrane with its own strength (facilitated transport), in all branches of guidance,

    .. math:: \gamma = \max_c \max \left( \cos(E(p), E(c)), \; |T(p) \cap T(c)| \, / \, |T(c)| \right)

    over the concept's phrases, for embeddings :math:`E` of all positions together and sets :math:`T` of
    tokens. So an erasure is a guard, and prompts that have nothing of the concept are next to untouched.
    ``spm_static`` adds the membranes to the weights instead, for all prompts alike.

    The released code scales both :math:`B` and :math:`A` by :math:`\gamma`, so that 0.3 acts as 0.09, and
    adds up the scaled factors of several membranes, so that these act on each other; here the product is
    scaled, and each has its own. The release draws a new latent for each step with the membrane attached and
    evaluates it 33 to 42 timesteps above the one it stands at. Here latents come from trajectories of the
    original model, several from each, at their own timesteps; what guidance predicted on the way is what the
    loss needs. Its other embeddings are Gaussian noise of about the concept's length (``anchors: noise``),
    which hardly any prompt is like; ``captions`` takes those of texts that stay, the less alike the likelier,
    as the paper has it. Its learning rate, which falls and rises three times, is constant here.

    References:
        | One-dimensional Adapter to Rule Them All: Concepts, Diffusion Models and Erasing Applications
          (Lyu et al., 2024)
        | https://arxiv.org/abs/2312.16145

    Attributes:
        parameters: Weights of the layers that get a membrane: linear ones and convolutions of single pixels.
        rank: Of each addition.
        transport: Whether each prompt has its own strengths; without, the membranes become part of the
            weights.
        negative_guidance: :math:`\eta`.
        anchors: What stays as it is: ``noise`` or ``captions``.
        anchor_count: Other embeddings for each latent.
        anchor_scale: :math:`\lambda`.
        steps: Optimizer steps for each concept.
        batch_size: Latents in each step.
        states: Latents taken from each trajectory, at different timesteps.
        sampler: How the trajectories are drawn.
    """

    paper: ClassVar[str] = "2312.16145"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    rank: int = setting(least=1)
    transport: bool
    negative_guidance: float = setting(least=0)
    anchors: str = setting(choices=ANCHORS)
    anchor_count: int = setting(least=1)
    anchor_scale: float = setting(least=0)
    states: int = setting(least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.states > self.sampler.steps:
            raise ValueError(f"states: a trajectory has {self.sampler.steps} steps, got {self.states}")

    @property
    def continues(self) -> bool:  # type: ignore[override]
        """Only what becomes part of the weights can go on from an earlier erasure."""
        return not self.transport

    @property
    def reads(self) -> frozenset[str]:
        """What is retained is held where anchors are captions."""
        kept = {"retain"} if self.anchors == "captions" and self.anchor_scale else frozenset()
        return frozenset({"templates"}) | kept

    def idle(self, concepts: ConceptSet) -> dict[str, str]:  # noqa: ARG002
        """What stays as it is, where that has no weight."""
        unused = [] if self.anchor_scale else ["anchors", "anchor_count"]
        return dict.fromkeys(unused, "It counts with anchor_scale above 0.")

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Trains a membrane for each concept."""
        self.check(model, concepts)
        layers = Layers.of(model, self.parameters, self.rank)
        with torch.no_grad():
            prompts = [
                model.encode(["", *dict.fromkeys(old for old, _ in concept.pairs)])
                for concept in concepts.erase.values()
            ]
            texts = without(concepts, captions(concepts, 3)) if self.anchors == "captions" else []
            kept = model.encode(texts) if texts else None
        membranes, history = [], list[dict[str, float]]()
        for number, sentences in enumerate(prompts):
            own = _within(context, number, number * self.steps)
            membrane, values = self.membrane(model, layers, sentences, kept, own)
            membranes.append(membrane)
            history += [{**each, "step": each["step"] + number * self.steps} for each in values]
        found = torch.stack(membranes)
        if self.transport:
            phrases = [concept.phrases for concept in concepts.erase.values()]
            shapes = {name: list(shape) for name, shape in layers.shapes.items()}
            guard = SPMGuard(membranes=found.cpu(), shapes=shapes, rank=self.rank, phrases=phrases)
            return Erasure(guard=guard, history=history)
        with select(model, self.parameters) as selection:
            for name, change in layers.changes(found).items():
                weight = selection.parameters[name]
                weight.data += change.reshape(weight.shape).to(weight)
            return finished(selection, history)

    def membrane(
        self,
        model: DiffusionModel,
        layers: Layers,
        prompts: Conditioning,
        kept: Conditioning | None,
        context: Context,
    ) -> tuple[Tensor, list[dict[str, float]]]:
        """Trains one membrane.

        Arguments:
            prompts: The empty prompt, and the sentences with the concept.
            kept: Texts that stay, encoded, if anchors are captions.

        Returns:
            The membrane, with shape :math:`(P,)`, and the history of its training.
        """

        def make() -> dict[str, Tensor]:
            count = self.steps * self.batch_size
            return vars(scattered(model, prompts, count, self.states, self.sampler, context, "spm"))

        states = States(**once(context.scratch / "states.safetensors", make, context.meter))
        membrane = nn.Parameter(layers.start(context.generator("spm", "start")).to(model.device))

        def loss(step: int) -> Tensor:
            own = states[torch.arange(step * self.batch_size, (step + 1) * self.batch_size)]
            return self.loss(model, layers, membrane, own.to(model.device), prompts[1:], kept, step, context)

        history = fit(Selection({"membrane": membrane}), loss, self.steps, self.optimizer, context)
        return membrane.detach(), history

    def loss(
        self,
        model: DiffusionModel,
        layers: Layers,
        membrane: Tensor,
        states: States,
        concept: Conditioning,
        kept: Conditioning | None,
        step: int,
        context: Context,
    ) -> Tensor:
        """The loss of one step, from one forward pass with the membrane and one of the anchors without it.

        Arguments:
            states: Latents, with shape :math:`(B, C, h, w)`, that were drawn for ``concept``.
        """
        own = concept[states.prompts.tolist()]
        random = context.generator("spm", "step", step)
        others = self.others(own, kept, random)
        latents, timesteps = (
            each.repeat(1 + self.anchor_count, *[1] * (each.ndim - 1))
            for each in (states.latents, states.timesteps)
        )
        count = len(states)
        with torch.no_grad():
            held = model.predict(latents[count:], timesteps[count:], others)
        with adapted(model, layers.factors(membrane)):
            predicted = model.predict(latents, timesteps, Conditioning.cat([own, others]))
        target = states.unconditional - self.negative_guidance * (states.conditional - states.unconditional)
        erasing = (predicted[:count] - target).square().mean()
        return erasing + self.anchor_scale * (predicted[count:] - held).square().mean()

    def others(
        self, concept: Conditioning, kept: Conditioning | None, random: torch.Generator
    ) -> Conditioning:
        """Embeddings to hold: :attr:`anchor_count` times one for each row of ``concept``."""
        tokens = concept.tokens.repeat(self.anchor_count, 1, 1)
        flat = tokens.flatten(1)
        if kept is None:
            noise = torch.randn(flat.shape, generator=random).to(flat)
            length = flat.norm(dim=1) * (0.8 + 0.4 * torch.rand(len(flat), generator=random)).to(flat)
            noise *= (length / noise.norm(dim=1))[:, None]
            pooled = None if concept.pooled is None else concept.pooled.repeat(self.anchor_count, 1)
            return Conditioning(noise.reshape(tokens.shape), pooled)
        likely = 1 - cosine(flat, kept.tokens.flatten(1)).cpu()
        return kept[torch.multinomial(likely.clamp(min=1e-6), 1, generator=random)[:, 0].tolist()]


@dataclass(kw_only=True)
class SPMGuard(Guard, name="spm"):
    """Gives each prompt its share of every membrane.

    Attributes:
        membranes: One for each concept, with shape :math:`(K, P)`.
        shapes: Shape of each layer's weight, by full name.
        rank: Of each addition.
        phrases: The phrases of each concept.
    """

    membranes: Tensor = field(repr=False)
    shapes: dict[str, list[int]]
    rank: int
    phrases: list[list[str]]
    _shares: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    _strengths: Strengths = field(default_factory=Strengths, init=False, repr=False, compare=False)

    @contextmanager
    def attached(self, parts: Mapping[str, nn.Module]) -> Iterator[None]:
        """Hooks all membranes into their layers; until a step begins, they let nothing pass."""
        own = {f"{part}.{name}": p for part, module in parts.items() for name, p in module.named_parameters()}
        for name, shape in self.shapes.items():
            if name not in own or list(own[name].shape[:2]) != shape:
                raise ArtifactError(
                    f"erasure: this model has no weight '{name}' with shape {tuple(shape)}. It was made for "
                    "another one."
                )
        layers = Layers({name: (o, d) for name, (o, d) in self.shapes.items()}, self.rank)
        device = next(parts["unet"].parameters()).device
        self._strengths.values = None
        with added(parts, layers.stacked(self.membranes.to(device)), self._strengths):
            yield

    def prepared(self, model: DiffusionModel, prompts: Sequence[str], encoded: Conditioning) -> Guard:
        """Compares every prompt with every phrase."""
        guard = replace(self)
        found = [shares(model, prompts, encoded, own) for own in self.phrases]
        guard._shares = dict(zip(prompts, torch.stack(found, dim=1), strict=True))
        return guard

    def branches(
        self, index: int, prompts: Sequence[str], parts: Sequence[Conditioning]
    ) -> Sequence[Conditioning]:
        """All branches as they are, each image with its prompt's strengths."""
        del index
        if len(prompts) != len(parts[0]) or not self._shares.keys() >= set(prompts):
            raise ValueError("spm: the guard has not been prepared for these prompts")
        own = torch.stack([self._shares[prompt] for prompt in prompts])
        self._strengths.values = own.repeat_interleave(self.rank, dim=1).repeat(len(parts), 1)
        return parts

    def state(self) -> dict[str, Tensor]:
        """The membranes."""
        return {"membranes": self.membranes}


def shares(
    model: DiffusionModel, prompts: Sequence[str], encoded: Conditioning, phrases: Sequence[str]
) -> Tensor:
    r""":math:`\gamma` of each prompt for one concept, with shape :math:`(P,)`.

    Arguments:
        encoded: The prompts, encoded.
    """
    alike = cosine(encoded.tokens.flatten(1), model.encode(phrases).tokens.flatten(1))
    said, wanted = ([set(ids) for ids in contents(model, texts)] for texts in (prompts, phrases))
    shared = torch.tensor([[len(own & each) / len(each) for each in wanted] for own in said])
    return torch.maximum(alike, shared.to(alike)).amax(dim=1)


def cosine(rows: Tensor, others: Tensor) -> Tensor:
    """Cosine of each of :math:`n` rows with each of :math:`m` others, with shape :math:`(n, m)`, float32."""
    first, second = (normalize(each.float(), dim=1) for each in (rows, others))
    return first @ second.T


def _within(context: Context, number: int, first: int) -> Context:
    """The context with randomness and a scratch folder for one concept, and steps that count on."""
    scratch = context.scratch / f"{number}"
    scratch.mkdir(exist_ok=True)
    return replace(
        context,
        seed=context.derive_seed("spm", number),
        scratch=scratch,
        log=lambda values, step: context.log(values, step + first),
    )
