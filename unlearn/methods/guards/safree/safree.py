"""SAFREE: training-free and adaptive guard."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError, unknown
from unlearn.methods.guards.safree.reattention import ReAttention
from unlearn.methods.guards.wording import WordedMethod
from unlearn.methods.method import Context, of_other_kinds
from unlearn.methods.subspaces import basis, contents, off, onto, pooled
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.settings import Settings, setting

#: The token that stands where another one is masked: the first of CLIP's vocabulary, "!" within a word.
MASK = 0


@dataclass(kw_only=True)
class Curve(Settings):
    r"""How much a prompt has to have moved for how many steps to be guarded.

    Attributes:
        midpoint: :math:`\tau`, ten times the :math:`\beta` at which half of the steps are.
        steepness: :math:`k`, above 0.
    """

    midpoint: float = setting()
    steepness: float = setting(above=0)


@dataclass(kw_only=True)
class SAFREE(WordedMethod):
    r"""Takes the concept out of those tokens of a prompt that speak of it, for as many steps as it takes.

    Let :math:`P_C` project on the span of the pooled embeddings of the concept's phrases, :math:`q_i` be the
    prompt's pooled embedding with token :math:`i` of :math:`n` masked, and :math:`P_I` project on the span
    of these. Token :math:`i` is a trigger if without it the prompt is further from the concept than without
    another one, and its embedding :math:`e_i` is replaced by :math:`\tilde e_i`:

    .. math::
        z_i \ge \frac{1 + \alpha}{n - 1} \sum_{j \ne i} z_j, \qquad z_i = \| (I - P_C) q_i \|, \qquad
        \tilde e_i = (I - P_C) P_I e_i .

    Start, end and padding stay as they are. A prompt of one token is its own trigger. The replacement is in
    force from step 0 to :math:`t'`, which is the later the more it moves the prompt (self-validating filter):

    .. math::
        t' = \mathrm{round} \left( \frac{U}{1 + \exp(-2 k (10 \beta - \tau))} \right), \qquad
        \beta = 1 - \mathrm{mean}_j \cos(\tilde e_j, e_j)

    over the tokens from start to end. As long as it is, latent re-attention compares the U-Net's skip
    features with those of the prompt as it was, which is a third branch in the same forward pass; see
    :class:`~unlearn.methods.guards.safree.reattention.ReAttention`. In the released code that has no effect,
    whatever it is told; ``safree_released`` goes without. How it is meant is reconstructed from code that is
    never reached.

    The released method always has the concept's phrases as negative prompt, which does a good part of the
    work: compare with ``negative_prompt: false`` and with ``method=negative_prompt``. Its projectors
    invert a float32 Gram matrix; ours come from singular vectors.

    References:
        | SAFREE: Training-Free and Adaptive Guard for Safe Text-to-Image and Video Generation (Yoon et al.,
          2025)
        | https://arxiv.org/abs/2410.12761

    Attributes:
        wording: The phrases that span the concept.
        kinds: :math:`\tau` and :math:`k` by kind of concept; of several kinds, the later :math:`t'` counts.
        alpha: :math:`\alpha`, from 0 up: how much further than the others a trigger's :math:`z` is.
        limit: :math:`U`, the largest :math:`t'`.
        last_step: :math:`t'` for all prompts alike; None lets the filter find it.
        re_attention: Scales :math:`s_1, s_2`, from 0 to 1, of re-attention; None goes without.
        negative_prompt: Whether the phrases, joined by commas, are the negative prompt as well.
    """

    paper: ClassVar[str] = "2410.12761"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention", "text_encoder"})

    kinds: dict[str, Curve]
    alpha: float = setting(least=0)
    limit: int = setting(least=0, unit="denoising steps")
    last_step: int | None = setting(least=0)
    re_attention: list[float] | None = setting(least=0, most=1, count=2)
    negative_prompt: bool

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Words and curves for other kinds, and what finds the last step where it is given."""
        found = super().idle(concepts)
        if self.last_step is not None:
            return found | dict.fromkeys(["kinds", "limit"], "'last_step' takes its place.")
        return found | of_other_kinds("kinds", self.kinds, concepts)

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Finds the concept's subspace."""
        self.check(model, concepts)
        curves = {(curve.midpoint, curve.steepness): None for curve in self.curves(concepts)}
        negative = self.wording.prompt(model, concepts) if self.negative_prompt else None
        span = basis(pooled(model, contents(model, self.wording.of(concepts))))
        values = {"rank": float(span.shape[1])}
        context.log(values, 0)
        guard = SAFREEGuard(
            span=span,
            negative=negative,
            alpha=self.alpha,
            limit=self.limit,
            curves=[list(curve) for curve in curves],
            last_step=self.last_step,
            re_attention=self.re_attention,
        )
        return Erasure(guard=guard, history=[values])

    def curves(self, concepts: ConceptSet) -> list[Curve]:
        """The curve of each concept.

        Raises:
            ConfigError: If there is none for a kind.
        """
        for name, concept in concepts.erase.items():
            if concept.kind not in self.kinds:
                known = unknown("kind", concept.kind, self.kinds)
                raise ConfigError(f"method.kinds: for concept '{name}': {known}")
        return [self.kinds[concept.kind] for concept in concepts.erase.values()]


@dataclass(frozen=True)
class Replacement:
    r"""What comes of one prompt.

    Attributes:
        triggers: Which of its :math:`n` tokens are triggers, with shape :math:`(n,)`.
        tokens: :math:`\tilde e` of every token from start to end, with shape :math:`(n + 2, d)`, float64.
        beta: :math:`\beta`.
    """

    triggers: Tensor
    tokens: Tensor
    beta: float

    @classmethod
    def of(cls, tokens: Tensor, masked: Tensor, span: Tensor, alpha: float) -> Replacement:
        r"""Looks at one prompt.

        Arguments:
            tokens: :math:`e`, from start to end token, with shape :math:`(n + 2, d)`, float64.
            masked: :math:`q`, with shape :math:`(n, d)`, float64.
            span: Basis of the concept's subspace, with shape :math:`(d, r)`, float64.
            alpha: :math:`\alpha`.
        """
        safe = off(onto(tokens, basis(masked)), span)
        beta = 1 - torch.cosine_similarity(safe, tokens, dim=1).mean()
        return cls(outstanding(off(masked, span).norm(dim=1), alpha), safe, float(beta))


def outstanding(distances: Tensor, alpha: float) -> Tensor:
    """Which are at least ``1 + alpha`` times the others' mean, with shape :math:`(n,)`; a single one is."""
    if len(distances) == 1:
        return torch.ones_like(distances, dtype=torch.bool)
    others = (distances.sum() - distances) / (len(distances) - 1)
    return distances >= (1 + alpha) * others


def last_step(beta: float, limit: int, midpoint: float, steepness: float) -> int:
    """:math:`t'` for :math:`\\beta`."""
    return round(limit / (1 + math.exp(-2 * steepness * (10 * beta - midpoint))))


@dataclass(frozen=True)
class _Plan:
    """What is drawn for one prompt: ``tokens``, with shape :math:`(L, d)`, up to step ``last``."""

    tokens: Tensor
    last: int


@dataclass(kw_only=True)
class SAFREEGuard(Guard, name="safree"):
    r"""Replaces the embeddings of trigger tokens during the first steps.

    Attributes:
        span: Basis of the concept's subspace, with shape :math:`(d, r)`, float64.
        negative: The negative prompt, if there is one.
        alpha: :math:`\alpha`.
        limit: :math:`U`.
        curves: :math:`\tau, k` of each kind of concept.
        last_step: :math:`t'` for all prompts alike, if given.
        re_attention: Scales of re-attention, if there is any.
    """

    span: Tensor = field(repr=False)
    negative: str | None
    alpha: float
    limit: int
    curves: list[list[float]]
    last_step: int | None
    re_attention: list[float] | None
    _plans: dict[str, _Plan] = field(default_factory=dict, init=False, repr=False, compare=False)
    _held: ReAttention | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.span.ndim != 2:
            raise ValueError(f"span: must be a matrix, got shape {tuple(self.span.shape)}")

    def attached(self, parts: Mapping[str, nn.Module]) -> AbstractContextManager[None]:
        """Hooks re-attention into the U-Net."""
        return nullcontext() if self._held is None else self._held.attached(parts["unet"])

    def prompts(self, prompts: Sequence[str], negative: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """The concept as negative prompt."""
        return prompts, negative if self.negative is None else [self.negative] * len(negative)

    def prepared(self, model: DiffusionModel, prompts: Sequence[str], encoded: Conditioning) -> Guard:
        """Looks at every prompt; the masked copies of all of them go through the text encoder together."""
        guard = replace(self)
        guard._held = None if self.re_attention is None else ReAttention(self.re_attention)
        texts = contents(model, prompts)
        copies = [[*ids[:i], MASK, *ids[i + 1 :]] for ids in texts for i in range(len(ids))]
        masked = iter(pooled(model, copies)) if copies else iter(())
        for prompt, ids, tokens in zip(prompts, texts, encoded.tokens, strict=True):
            own = [next(masked) for _ in ids]
            guard._plans[prompt] = self._plan(tokens, torch.stack(own)) if own else _Plan(tokens, -1)
        return guard

    def _plan(self, tokens: Tensor, masked: Tensor) -> _Plan:
        count = len(masked)
        found = Replacement.of(tokens[: count + 2].double().cpu(), masked, self.span, self.alpha)
        if not found.triggers.any():
            return _Plan(tokens, -1)
        safe = tokens.clone()
        inner = found.tokens[1:-1].to(tokens)
        safe[1 : count + 1] = torch.where(
            found.triggers[:, None].to(tokens.device), inner, tokens[1 : count + 1]
        )
        if self.last_step is not None:
            return _Plan(safe, self.last_step)
        return _Plan(safe, max(last_step(found.beta, self.limit, *curve) for curve in self.curves))

    def branches(
        self, index: int, prompts: Sequence[str], parts: Sequence[Conditioning]
    ) -> Sequence[Conditioning]:
        """Safe embeddings for prompts that are still guarded, and the original ones to compare with."""
        negative, original = parts
        if len(prompts) != len(original) or not self._plans.keys() >= set(prompts):
            raise ValueError("safree: the guard has not been prepared for these prompts")
        plans = [self._plans[prompt] for prompt in prompts]
        active = torch.tensor([index <= plan.last for plan in plans], device=original.tokens.device)
        held = bool(active.any())
        if self._held is not None:
            self._held.active = active if held else None
        if not held:
            return parts
        tokens = [plan.tokens if index <= plan.last else original.tokens[i] for i, plan in enumerate(plans)]
        guarded = Conditioning(torch.stack(tokens), original.pooled)
        return [negative, guarded] if self._held is None else [negative, guarded, original]

    def state(self) -> dict[str, Tensor]:
        """The concept's subspace."""
        return {"span": self.span}
