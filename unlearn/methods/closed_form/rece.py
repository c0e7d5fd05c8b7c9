"""Reliable and Efficient Concept Erasure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.errors import ConfigError, unknown
from unlearn.methods.closed_form.solver import TextRows, condensed, gram, solve
from unlearn.methods.closed_form.uce import UCE, Rows, effect
from unlearn.methods.method import Context, Method, finished, of_other_kinds, without_retained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.maps import apply_map
from unlearn.models.weights.parameters import select
from unlearn.settings import Settings, setting

#: What mu pulls the reviving embedding to, and whether it pulls its outputs to the concept's.
EMBEDDINGS = {
    "close_regzero": ("zero", False),
    "close_standardreg": ("anchor", False),
    "close_surrogatereg_1st": ("nothing", True),
    "close_surrogatereg_2nd": ("concept", False),
    "close_surrogatereg_both": ("concept", True),
}


@dataclass(kw_only=True)
class Hardening(Settings):
    r"""How hard one kind of concept is worked on.

    Attributes:
        epochs: Rounds of finding what revives the concept and erasing that too.
        mu: :math:`\mu`, which keeps the reviving embedding short.
    """

    epochs: int = setting(least=0)
    mu: float = setting(least=0)


@dataclass(kw_only=True)
class RECE(Method):
    r"""Erases a concept, finds the embeddings that bring it back, and erases those, a few times over.

    With :math:`W_l` the original keys and values and :math:`W_l M` the edited ones, the embedding that
    revives :math:`c` is

    .. math::
        c' = \arg\min_{c'} \sum_l \| W_l M c' - W_l c \|^2 + \mu \| c' \|^2
           = (\mu I + M^\top S M)^{-1} M^\top S \, c, \qquad S = \sum_l W_l^\top W_l .

    It is mapped to the anchor by another closed-form edit, whose targets, retained outputs and ridge all
    stand on the weights as edited so far: :math:`M \leftarrow M M'`. This is the released code, on all rows
    of each text. There the outcome of every epoch is kept only if images drawn with it are better; here all
    epochs count. The released scripts weigh a retained text by how often it is repeated; here each counts
    once.

    The released functions for the embedding differ in what :math:`\mu` weighs: :math:`\| c' \|^2` as above
    (``close_regzero``, which made all results), :math:`\| c' - c^* \|^2` with :math:`c^*` the anchor
    (``close_standardreg``), or a distance from the concept (``close_surrogatereg``):
    :math:`\sum_l \| W_l M (c' - c) \|^2` (``_1st``), :math:`\| c' - c \|^2` (``_2nd``) or ``_both``.

    References:
        | Reliable and Efficient Concept Erasure of Text-to-Image Diffusion Models (Gong et al., 2024)
        | https://arxiv.org/abs/2407.12383

    Attributes:
        parameters: The edited weights, each of shape :math:`(o, d)` with :math:`d` the width of the text
            embeddings.
        start: The edit to start from, as the authors do; None for the original weights.
        kinds: Epochs and :math:`\mu` by kind of concept.
        epochs: The same number of epochs for all kinds, if given.
        mu: The same :math:`\mu` for all kinds, if given.
        embedding: ``close_regzero``, ``close_standardreg``, ``close_surrogatereg_1st``,
            ``close_surrogatereg_2nd`` or ``close_surrogatereg_both``.
        retain_empty: Whether the empty text is retained too.
        erase_scale: :math:`s`, the weight of each erased row.
        preserve_scale: :math:`p`, the weight of each retained row.
        ridge: :math:`\lambda`, the pull towards the weights as they are.
    """

    paper: ClassVar[str] = "2407.12383"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})
    random: ClassVar[bool] = False

    parameters: list[str]
    start: UCE | None
    kinds: dict[str, Hardening]
    epochs: int | None = setting(default=None, least=0)
    mu: float | None = setting(default=None, least=0)
    embedding: str = setting(choices=EMBEDDINGS)
    retain_empty: bool
    erase_scale: float = setting(above=0)
    preserve_scale: float = setting(least=0)
    ridge: float = setting(least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start is not None and self.start.technique != "replace":
            raise ValueError(f"start.technique: must be 'replace', got '{self.start.technique}'")

    @property
    def reads(self) -> frozenset[str]:
        """The kind as well, unless one number of epochs and one :math:`\\mu` are given for all."""
        return super().reads | ({"kind"} if self.epochs is None or self.mu is None else frozenset())

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Values by kind that are given for all, and of the start what this method has its own of."""
        found = of_other_kinds("kinds", self.kinds, concepts)
        for key in ("epochs", "mu"):
            if getattr(self, key) is not None:
                found |= {f"kinds.{kind}.{key}": f"'{key}' takes its place." for kind in self.kinds}
        if self.epochs == 0:
            later = ["mu", "embedding", "erase_scale", "preserve_scale", "ridge"]
            found |= dict.fromkeys(later, "It counts with epochs above 0.")
        found |= without_retained(["preserve_scale"], [""] * self.retain_empty + concepts.retained)
        if self.start is not None:
            found["start.parameters"] = "'parameters' says what is edited."
            found |= {f"start.{key}": when for key, when in self.start.idle(concepts).items()}
        return found

    @torch.no_grad()
    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Edits all selected projections by the product of the epochs' maps."""
        self.check(model, concepts)
        plans = {name: self.hardening(name, concept) for name, concept in concepts.erase.items()}
        with select(model, self.parameters) as selection:
            weights = [parameter.data for parameter in selection.parameters.values()]
            matrix, history = self.found(model, concepts, plans, gram(*weights))
            apply_map(weights, matrix)
            for epoch, values in enumerate(history):
                context.log(values, epoch)
            return finished(selection, history, matrix)

    def hardening(self, name: str, concept: Concept) -> Hardening:
        """Epochs and :math:`\\mu` for one concept."""
        if self.epochs is not None and self.mu is not None:
            return Hardening(epochs=self.epochs, mu=self.mu)
        if concept.kind not in self.kinds:
            known = unknown("kind", concept.kind, self.kinds)
            raise ConfigError(
                f"method.kinds: for concept '{name}': {known} Or set method.epochs and method.mu."
            )
        kind = self.kinds[concept.kind]
        return Hardening(
            epochs=kind.epochs if self.epochs is None else self.epochs,
            mu=kind.mu if self.mu is None else self.mu,
        )

    def found(
        self, model: DiffusionModel, concepts: ConceptSet, plans: dict[str, Hardening], original: Tensor
    ) -> tuple[Tensor, list[dict[str, float]]]:
        r"""The map of all epochs, and what each measured.

        Arguments:
            plans: Epochs and :math:`\mu` by name of concept.
            original: :math:`S`, with shape :math:`(d, d)`.

        Returns:
            :math:`M`, with shape :math:`(d, d)`, and the values of the start, if there is one, and of each
            epoch.
        """
        phrases = {
            old: (new, plans[name]) for name, concept in concepts.erase.items() for old, new in concept.pairs
        }
        kept = [""] * self.retain_empty + concepts.retained
        own = [*phrases, *(anchor for anchor, _ in phrases.values()), *kept]
        texts = TextRows.encode(model, own + (self.start.texts(concepts) if self.start else []))
        tokens = texts.tokens
        none = next(iter(tokens.values()))[:0]
        rows = Rows(
            erased=torch.cat([tokens[phrase] for phrase in phrases]).double(),
            targets=torch.cat([tokens[anchor] for anchor, _ in phrases.values()]).double(),
            retained=condensed([none, *(tokens[text] for text in kept)]),
        )

        history: list[dict[str, float]] = []
        layers = Layers.unedited(original)
        if self.start is not None:
            start, solution = self.start.solved(texts, concepts)
            layers = layers.edit(start.targets - start.erased, solution.readout)
            history.append({"condition": solution.condition, **effect(layers.matrix, rows)})

        for epoch in range(max(plan.epochs for plan in plans.values())):
            at_work = [(plan.mu, old, new) for old, (new, plan) in phrases.items() if plan.epochs > epoch]
            at_work.sort(key=lambda item: item[0])  # one factorisation for each mu
            targets = torch.cat([tokens[new] for _, _, new in at_work]).double()
            found = torch.cat(
                [
                    revive(
                        torch.cat([tokens[old] for _, old, _ in group]).double(),
                        torch.cat([tokens[new] for _, _, new in group]).double(),
                        layers,
                        mu,
                        self.embedding,
                    )
                    for mu, group in ((mu, list(same)) for mu, same in groupby(at_work, key=lambda i: i[0]))
                ]
            )
            solution = solve(
                found,
                rows.retained,
                erase_scale=self.erase_scale,
                preserve_scale=self.preserve_scale,
                ridge=self.ridge,
            )
            layers = layers.edit(targets - found, solution.readout)
            lengths = found.norm() / torch.cat([tokens[old] for _, old, _ in at_work]).norm()
            history.append(
                {
                    "condition": solution.condition,
                    "revived_length": float(lengths),
                    **effect(layers.matrix, rows),
                }
            )
        return layers.matrix, history


@dataclass(frozen=True)
class Layers:
    r"""All layers together, as far as it matters for what revives a concept.

    Attributes:
        original: :math:`S = \sum_l W_l^\top W_l`, with shape :math:`(d, d)`, float64.
        matrix: :math:`M`, with shape :math:`(d, d)`, float64.
        edited: :math:`M^\top S M`, with shape :math:`(d, d)`, float64.
    """

    original: Tensor
    matrix: Tensor
    edited: Tensor

    @classmethod
    def unedited(cls, original: Tensor) -> Layers:
        """The layers before any edit."""
        return cls(original, torch.eye(len(original), dtype=original.dtype, device=original.device), original)

    def edit(self, change: Tensor, readout: Tensor) -> Layers:
        r"""The layers after another edit, by :math:`M' = I + C^\top X`.

        Arguments:
            change: :math:`C`, what is added to each row that the edit maps, with shape :math:`(n, d)`.
            readout: :math:`X`, with shape :math:`(n, d)`.
        """
        if 2 * len(change) > len(self.matrix):
            step = change.T @ readout
            step.diagonal().add_(1)
            return Layers(self.original, self.matrix @ step, step.T @ self.edited @ step)
        # The same in products with n rows instead of d.
        outputs = change @ self.edited
        left = torch.cat([readout, outputs]).T
        right = torch.cat([outputs + (outputs @ change.T) @ readout, readout])
        return Layers(
            self.original,
            torch.addmm(self.matrix, self.matrix @ change.T, readout),
            torch.addmm(self.edited, left, right),
        )


def revive(
    concept: Tensor, anchor: Tensor, layers: Layers, mu: float, embedding: str = "close_regzero"
) -> Tensor:
    r"""Embeddings on which the edited layers do what the original ones do on the concept.

    Arguments:
        concept: Embeddings :math:`c` of the concept, with shape :math:`(n, d)`, float64.
        anchor: Embeddings :math:`c^*` of its anchor, with shape :math:`(n, d)`, float64.
        layers: The layers as edited so far.
        mu: :math:`\mu`; without it the concept comes back exactly, however long the embedding.
        embedding: How it is regularised, out of :data:`EMBEDDINGS`.

    Returns:
        Embeddings :math:`c'`, with shape :math:`(n, d)`, float64.

    Raises:
        ConfigError: If :math:`\mu` is too small for the edit to be inverted.
    """
    pull, outputs = EMBEDDINGS[embedding]
    system = (1 + mu * outputs) * layers.edited
    right = concept @ layers.original @ layers.matrix
    if outputs:
        right += mu * concept @ layers.edited
    if pull != "nothing":
        system.diagonal().add_(mu)
        right += mu * {"zero": torch.zeros_like(concept), "anchor": anchor, "concept": concept}[pull]
    factor, failed = torch.linalg.cholesky_ex(system)
    if int(failed):
        raise ConfigError(f"method.mu: must be larger, since the edit cannot be inverted with {mu}.")
    return torch.cholesky_solve(right.T, factor).T
