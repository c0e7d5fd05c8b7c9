"""Realistic and effective erasure: a concept with its neighbourhood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.errors import ConfigError
from unlearn.methods.captions import captions
from unlearn.methods.closed_form.realera.alignment import Alignment
from unlearn.methods.closed_form.realera.neighbours import Shell, root
from unlearn.methods.closed_form.solver import TextRows, factorised, gram, mean_gram
from unlearn.methods.closed_form.uce import Rows, effect, token_rows
from unlearn.methods.method import Context, Method, finished, without_retained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.maps import apply_map
from unlearn.models.weights.parameters import select
from unlearn.settings import setting

DIRECTIONS = ("isotropic", "vocabulary")

#: Rows around which neighbours are drawn at a time.
ROWS = 16


@dataclass(kw_only=True)
class RealEra(Method):
    r"""Erases a concept's embedding with others around it, and holds in place what is beyond.

    **Closed form.** For every token row :math:`e` of a sentence with the concept and its anchor's :math:`a`,
    keys and values of cross-attention are edited by the matrix of

    .. math::
        \min_W \sum_e \Big( \sum_{k=0}^K \| W (e + \eta_k) - W_0 a \|^2
        + \lambda_b \sum_{b=1}^B \| (W - W_0) (e + \zeta_b) \|^2 \Big)
        + p \sum_r \| (W - W_0) r \|^2 + \lambda \| W - W_0 \|^2 ,

    with :math:`\eta_0 = 0`, neighbours :math:`e + \eta` and embeddings beyond the concept :math:`e + \zeta`
    from :mod:`unlearn.methods.closed_form.realera.neighbours`, and retained rows :math:`r`. **Noise
    alignment**: see
    :class:`~unlearn.methods.closed_form.realera.alignment.Alignment`.

    **This is a reconstruction.** No code is released, and the paper's text was not at hand. Its abstract has
    the perturbed embeddings, the beyond-concept regularisation, the closed form and a LoRA that aligns noise
    predictions; a summary of it has the bounds of the perturbation's distance and cosine. All else is ours:
    which rows are moved (those of UCE's code of 2023) and how they are drawn, what counts as beyond, the
    LoRA's place and loss, and every number.

    Two things follow from the formula and are checked. The neighbours' directions across :math:`e` are
    everyone's: mapping them to :math:`a` shrinks unrelated embeddings to the share
    :math:`\lambda_b B \sigma_b^2 / (\lambda_b B \sigma_b^2 + K \sigma^2)`, with :math:`\sigma^2` the
    variances across. And what is beyond is held along :math:`e` as well, which keeps the share
    :math:`\lambda_b B E[s_b^2] / (1 + K E[s^2] + \lambda_b B E[s_b^2])` of the concept where it was; so its
    cosines :math:`s_b` have to be small. A linear map can thus do little more for the neighbours than for the
    concept itself; that is left to the alignment.

    References:
        | RealEra: Semantic-level Concept Erasure via Neighbor-Concept Mining (Liu et al., 2024)
        | https://arxiv.org/abs/2410.09140

    Attributes:
        parameters: The edited weights, each of shape :math:`(o, d)` with :math:`d` the width of the text
            embeddings.
        neighbours: Where :math:`\eta` leads, and :math:`K`.
        beyond: Where :math:`\zeta` leads, and :math:`B`.
        beyond_scale: :math:`\lambda_b`.
        directions: What neighbours differ by: ``isotropic``, or ``vocabulary``, as the tokens of captions do.
        retain_empty: Whether the empty text is retained too.
        preserve_scale: :math:`p`, the weight of each retained row.
        ridge: :math:`\lambda`, the pull towards the weights as they are.
        largest_shrinking: Share of an unrelated embedding that neighbours may take.
        alignment: The low-rank training; None leaves it out.
    """

    paper: ClassVar[str] = "2410.09140"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    parameters: list[str]
    neighbours: Shell
    beyond: Shell
    beyond_scale: float = setting(least=0)
    directions: str = setting(choices=DIRECTIONS)
    retain_empty: bool
    preserve_scale: float = setting(least=0)
    ridge: float = setting(least=0)
    largest_shrinking: float = setting(above=0, below=1)
    alignment: Alignment | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shrinking > self.largest_shrinking:
            raise ValueError(
                f"beyond_scale: the neighbours would shrink all embeddings by {self.shrinking:.0%}, and "
                f"largest_shrinking is {self.largest_shrinking:.0%}. Raise beyond_scale or beyond.count."
            )
        if self.held > 0.5:
            raise ValueError(
                f"beyond.cosine: what is beyond would hold {self.held:.0%} of the concept where it is. "
                "Its cosines have to be nearer to 0."
            )

    @property
    def shrinking(self) -> float:
        """Share of an unrelated embedding that the neighbours would take, but for retained rows and ridge."""
        near = self.neighbours.count * (1 - self.neighbours.along)
        beyond = self.beyond_scale * self.beyond.count * (1 - self.beyond.along)
        return near / (near + beyond) if near else 0.0

    @property
    def held(self) -> float:
        """Share of the concept that what is beyond would keep where it is."""
        near = 1 + self.neighbours.count * self.neighbours.along
        beyond = self.beyond_scale * self.beyond.count * self.beyond.along
        return beyond / (near + beyond)

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """The weight of what is retained where nothing is, and the shells from which nothing is drawn."""
        found = without_retained(["preserve_scale"], [""] * self.retain_empty + concepts.retained)
        if not self.neighbours.count:
            found["largest_shrinking"] = "It counts with neighbours.count above 0."
        if not self.beyond_scale:
            found["beyond.count"] = "It counts with beyond_scale above 0."
        if self.alignment is None:
            drawn = {"neighbours": self.neighbours.count, "beyond": self.beyond.count * self.beyond_scale}
            for name in (name for name, count in drawn.items() if not count):
                when = f"It counts where {name} are drawn, or with an alignment."
                found |= {f"{name}.cosine": when, f"{name}.distance": when}
        return found

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Edits all selected projections at once, then trains additions to them."""
        self.check(model, concepts)
        pairs = list(dict.fromkeys(pair for concept in concepts.erase.values() for pair in concept.pairs))
        directions = self.vocabulary(model, concepts)
        matrix, values = self.solved(model, concepts, pairs, directions, context)
        with select(model, self.parameters) as edited:
            apply_map([parameter.data for parameter in edited.parameters.values()], matrix)
            context.log(values, 0)
            if self.alignment is None:
                return finished(edited, [values], matrix)
            shells = self.neighbours, self.beyond
            history = self.alignment.align(model, edited, pairs, shells, directions, context)
            return finished(edited, [{**values, **history[0]}, *history[1:]])

    def vocabulary(self, model: DiffusionModel, concepts: ConceptSet) -> Tensor | None:
        """The directions along which tokens of captions differ, with shape :math:`(d, d)`."""
        if self.directions == "isotropic":
            return None
        return root(mean_gram(model, captions(concepts, 15)))

    @torch.no_grad()
    def solved(
        self,
        model: DiffusionModel,
        concepts: ConceptSet,
        pairs: list[tuple[str, str]],
        directions: Tensor | None,
        context: Context,
    ) -> tuple[Tensor, dict[str, float]]:
        """The map of the closed form, with shape :math:`(d, d)`, and what it measured.

        Raises:
            ConfigError: If the map shrinks embeddings beyond the concept far more than foreseen.
        """
        retained = [""] * self.retain_empty + concepts.retained
        texts = TextRows.encode(model, [text for pair in pairs for text in pair] + retained)
        rows = token_rows(texts, pairs, retained, "window")
        random = context.generator("realera", "neighbours")
        matrix, condition = self.map(rows, random, directions)
        values = {"condition": condition, **effect(matrix, rows)}
        # Neighbours that the map has not seen: one around each row.
        near, beyond = (
            shell.around(rows.erased, random, directions, count=1)[:, 0]
            for shell in (self.neighbours, self.beyond)
        )
        share = float((beyond @ matrix.T * beyond).sum() / beyond.square().sum())
        if self.neighbours.count and share < 1 - 4 * self.largest_shrinking:
            raise ConfigError(
                f"method.beyond_scale: the edit leaves {share:.0%} of embeddings beyond the concept. "
                "Raise method.beyond_scale or method.beyond.count, or lower method.neighbours.count."
            )
        neighbourhood = Rows(near, rows.targets, near[:0])
        residual = effect(matrix, neighbourhood)["residual"]
        return matrix, values | {"neighbour_residual": residual, "beyond_share": share}

    def map(
        self, rows: Rows, random: torch.Generator, directions: Tensor | None = None
    ) -> tuple[Tensor, float]:
        r""":math:`M = I + \sum (a - e - \eta) (e + \eta)^\top G^{-1}`, and the condition number of :math:`G`.

        Sums go over a few rows at a time, since there are many neighbours.
        """
        width = rows.erased.shape[1]
        system = self.preserve_scale * gram(rows.retained)
        cross = torch.zeros_like(system)
        for start in range(0, len(rows.erased), ROWS):
            erased, targets = (part[start : start + ROWS] for part in (rows.erased, rows.targets))
            near = torch.cat([erased[:, None], self.neighbours.around(erased, random, directions)], dim=1)
            system += gram(near.flatten(0, 1))
            cross += (targets[:, None] - near).flatten(0, 1).T @ near.flatten(0, 1)
            if self.beyond.count and self.beyond_scale:
                beyond = self.beyond.around(erased, random, directions)
                system += self.beyond_scale * gram(beyond.flatten(0, 1))
        factor, condition = factorised(system, self.ridge)
        change = torch.cholesky_solve(cross.T, factor).T
        return change + torch.eye(width, dtype=change.dtype, device=change.device), condition
