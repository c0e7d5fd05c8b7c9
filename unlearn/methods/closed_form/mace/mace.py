"""Mass Concept Erasure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.errors import ConfigError, unknown
from unlearn.methods.closed_form.mace.fusion import Adapter, Kept, fused, refinement
from unlearn.methods.closed_form.mace.suppression import Suppression, Trainer, drawn
from unlearn.methods.closed_form.solver import mean_gram
from unlearn.methods.method import Context, Method, finished, of_other_kinds, without_retained
from unlearn.methods.phrases import Phrase, phrases
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler
from unlearn.models.weights.maps import apply_map
from unlearn.models.weights.parameters import matching, select
from unlearn.settings import setting

#: Captions of COCO 2014 that the released prior sums over: the unit of ``refine_prior`` and ``fuse_prior``.
CAPTIONS = 616_767


@dataclass(kw_only=True)
class Kind(Suppression):
    r"""How one kind of concept is erased.

    Attributes:
        ridge: :math:`\lambda` of both closed forms.
        refine_prior: :math:`p` of the refinement.
        fuse_prior: :math:`p` of the fusion.
    """

    ridge: float = setting(least=0)
    refine_prior: float = setting(least=0)
    fuse_prior: float = setting(least=0)


@dataclass(kw_only=True)
class MACE(Method):
    r"""Takes a concept out of the words around it, then out of attention to its own words, for many at once.

    Three stages edit the keys and values of cross-attention:

    1. Refinement, in closed form. In sentences with the concept, every token but the concept's own is mapped
       to what it is in the same sentence with the anchor, so that no other word carries the concept
       (:func:`~unlearn.methods.closed_form.mace.fusion.refinement`).
    2. Each phrase gets a low-rank addition :math:`B_i A_i` to the refined weights, trained to take attention
       off the phrase, the end token and the padding. Over the cross-attentions :math:`l`,

       .. math:: \sum_l \| A_l[:, \text{pixels}, \text{tokens}] \|_F

       on noised images of the concept: all of their pixels, or those that show it. There is no other loss.
    3. Fusion, in closed form: one set of weights does on each phrase's sentences what its own addition does
       (:func:`~unlearn.methods.closed_form.mace.fusion.fused`). All layers and phrases share one system, and
       100 phrases take little more memory than one.

    The released code is followed, with these differences. Both closed forms are to keep what they do on
    616,767 captions of COCO, which do not come with this package: here the captions' Gram matrix is that of
    the retained sentences, scaled to as many texts, and the Gram matrices of artists and celebrities, whose
    texts are not published, are left out. The released refinement multiplies the captions' weight by itself,
    so that 7e-7 acts as 4.9e-13; ``mace_released`` does too. With it, or without a ridge, the released
    systems are singular to working precision; ``relative_ridge`` makes them solvable. The released images
    are drawn with one prompt, go through the autoencoder with the wrong normalisation, and get masks from a
    segmentation network; here they are the latents that the model itself draws for the phrase's first
    sentences, and masks come from its own attention. Phrases that are trained together have their gradients
    clipped apart, so that they are what they would be alone.

    References:
        | MACE: Mass Concept Erasure in Diffusion Models (Lu et al., 2024)
        | https://arxiv.org/abs/2403.06135

    Attributes:
        parameters: The edited weights of linear layers, each of shape :math:`(o, d)` with :math:`d` the width
            of the text embeddings.
        kinds: Settings by kind of concept. Where kinds are erased together, their largest ridge and priors
            hold for all.
        relative_ridge: Added to the ridge, in units of the mean eigenvalue of each system.
        rank: Of each addition.
        images: Drawn of each phrase.
        weight_decay: Share of the learning rate by which the additions shrink each step.
        clip_norm: Largest norm of the gradient of one addition; None for no limit.
        batch_size: Phrases trained at a time; changes results by rounding only.
        sampler: How the images are drawn.
    """

    paper: ClassVar[str] = "2403.06135"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})
    neutral: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    parameters: list[str]
    kinds: dict[str, Kind]
    relative_ridge: float = setting(least=0)
    rank: int = setting(least=1)
    images: int = setting(least=1)
    weight_decay: float = setting(least=0)
    clip_norm: float | None = setting(above=0)
    batch_size: int = setting(least=1)
    sampler: Sampler

    @property
    def reads(self) -> frozenset[str]:
        """The kind as well."""
        return super().reads | {"kind"}

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Other kinds, and the weights of what is retained, where nothing is."""
        priors = [f"kinds.{kind}.{key}" for kind in self.kinds for key in ("refine_prior", "fuse_prior")]
        return without_retained(priors, concepts.retained_sentences()) | of_other_kinds(
            "kinds", self.kinds, concepts
        )

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Refines, trains one addition for each phrase, and fuses them."""
        self.check(model, concepts)
        kinds = {concept.kind: self.kind(name, concept) for name, concept in concepts.erase.items()}
        weights = matching(model, self.parameters)
        groups: dict[str, list[Phrase]] = {kind: [] for kind in kinds}
        for name, concept in concepts.erase.items():
            groups[concept.kind] += phrases(model, name, concept)
        own = [phrase for group in groups.values() for phrase in group]
        contexts = {kind: _within(context, kind) for kind in kinds}
        with torch.no_grad():
            prior = _prior(model, concepts)
            ridge = max(kind.ridge for kind in kinds.values())
            scale = max(kind.refine_prior for kind in kinds.values())
            matrix, measured = refinement(
                _aligned_rows(model, own), Kept(prior, scale, ridge, self.relative_ridge)
            )
            refined = {name: parameter.detach().clone() for name, parameter in weights.items()}
            apply_map(list(refined.values()), matrix)
        images = {
            kind: drawn(model, group, self.images, kinds[kind].masks, self.sampler, contexts[kind])
            for kind, group in groups.items()
        }

        adapters: list[Adapter] = []
        history: list[dict[str, float]] = []
        shapes = {name: (weight.shape[0], weight.shape[1]) for name, weight in weights.items()}
        with model.erased(Erasure(weights=refined)):
            for kind, group in groups.items():
                trainer = Trainer(
                    model=model,
                    shapes=shapes,
                    phrases=group,
                    images=images[kind],
                    how=kinds[kind],
                    rank=self.rank,
                    batch_size=self.batch_size,
                    context=_counting_on(contexts[kind], len(history)),
                )
                found, rows = trainer.train(self.weight_decay, self.clip_norm)
                adapters += found
                history += [{**row, "step": row["step"] + len(history)} for row in rows]

        with torch.no_grad(), select(model, self.parameters) as selection:
            scale = max(kind.fuse_prior for kind in kinds.values())
            rows_of = (model.encode(phrase.sentences).tokens.flatten(0, 1) for phrase in own)
            new, condition = fused(
                [parameter.data for parameter in selection.parameters.values()],
                matrix,
                adapters,
                rows_of,
                Kept(prior, scale, ridge, self.relative_ridge),
            )
            for parameter, weight in zip(selection.parameters.values(), new, strict=True):
                parameter.data.copy_(weight)
            measured |= condition
            context.log(measured, 0)
            history[0] |= measured
            return finished(selection, history)

    def kind(self, name: str, concept: Concept) -> Kind:
        """The settings for one concept."""
        if concept.kind not in self.kinds:
            known = unknown("kind", concept.kind, self.kinds)
            raise ConfigError(f"method.kinds: for concept '{name}': {known}")
        return self.kinds[concept.kind]


def _prior(model: DiffusionModel, concepts: ConceptSet) -> Tensor:
    """Gram matrix of what is to be kept, as if it were as many texts as the released prior has."""
    texts = concepts.retained_sentences()
    if not texts:
        width = model.encode([""]).tokens.shape[-1]
        return torch.zeros(width, width, dtype=torch.float64, device=model.device)
    return CAPTIONS * mean_gram(model, texts)


def _aligned_rows(model: DiffusionModel, own: list[Phrase]) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of the tokens that a phrase's sentences share with the anchored ones, phrase by phrase."""
    for phrase in own:
        old, new = model.encode(phrase.sentences).tokens, model.encode(phrase.anchored).tokens
        yield (
            torch.cat([tokens[where] for tokens, (where, _) in zip(old, phrase.shared, strict=True)]),
            torch.cat([tokens[where] for tokens, (_, where) in zip(new, phrase.shared, strict=True)]),
        )


def _within(context: Context, kind: str) -> Context:
    """The context with a scratch folder for one kind."""
    scratch = context.scratch / kind
    scratch.mkdir(exist_ok=True)
    return replace(context, scratch=scratch)


def _counting_on(context: Context, first: int) -> Context:
    """The context with steps that count on from ``first``."""
    return replace(context, log=lambda values, step: context.log(values, step + first))
