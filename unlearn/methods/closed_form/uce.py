"""Unified Concept Editing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.closed_form.solver import Solution, TextRows, condensed, relative_distance, solve
from unlearn.methods.method import Context, Method, finished, without_retained
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.maps import apply_map
from unlearn.models.weights.parameters import select
from unlearn.settings import setting

TOKENS = ("last", "window")
TECHNIQUES = ("replace", "tensor")


@dataclass(frozen=True)
class Rows:
    r"""Embeddings that one edit works on.

    Attributes:
        erased: Of what is erased, with shape :math:`(n, d)`.
        targets: Of what takes its place, row by row, with shape :math:`(n, d)`.
        retained: Of what stays, with shape :math:`(m, d)`; :math:`m \le d`, see
            :func:`~unlearn.methods.closed_form.solver.condensed`.
    """

    erased: Tensor
    targets: Tensor
    retained: Tensor


@dataclass(kw_only=True)
class UCE(Method):
    r"""Edits the keys and values of cross-attention so that a concept's words act like its anchor's.

    The edited projection minimises the distance between its outputs on the concept and the original's on the
    anchor, and keeps its outputs on retained texts; see :mod:`unlearn.methods.closed_form.solver`.

    The released code exists twice. Its head of 2025 takes one row per text, that of the last content token
    (``tokens: last``), and retains only what it is told to. The code of 2023, which made the paper's models
    and from which RECE starts, takes the rows from the last content token to the end, cut to the same length
    on both sides (``tokens: window``), and all rows of retained texts, with the empty text among them. Both
    are here and give very different edits. In both, a text without content stands for its start token. The
    released codes invert in float32, which loses up to two digits of the edit on CLIP's embeddings; ours does
    not.

    References:
        | Unified Concept Editing in Diffusion Models (Gandikota et al., 2024)
        | https://arxiv.org/abs/2308.14761

    Attributes:
        parameters: The edited weights, each of shape :math:`(o, d)` with :math:`d` the width of the text
            embeddings.
        guide: What takes the place of all that is erased; None for each concept's own anchor. The empty text
            makes it what the paper calls moderation, and what the authors erase nudity and objects with.
        tokens: ``last`` (code of 2025) or ``window`` (code of 2023).
        technique: ``replace`` maps to the anchor's outputs; ``tensor`` (code of 2023) to their part, layer by
            layer, that is orthogonal to the concept's.
        templates: Put around what is erased and its anchor, with ``{}`` for either, but not around what is
            retained (code of 2025: ``expand_prompts``).
        retain_empty: Whether the empty text, that is the unconditional prediction, is retained too.
        erase_scale: :math:`s`, the weight of each erased row.
        preserve_scale: :math:`p`, the weight of each retained row; None for
            ``max(0.1, 1 / number of retained texts)``, as in the ``train_uce.py`` that RECE starts from.
        ridge: :math:`\lambda`, the pull towards the weights as they are.
    """

    paper: ClassVar[str] = "2308.14761"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})
    random: ClassVar[bool] = False

    parameters: list[str]
    guide: str | None = None
    tokens: str = setting(choices=TOKENS)
    technique: str = setting(choices=TECHNIQUES)
    templates: list[str] = setting(shape="some", contains=("{}",))
    retain_empty: bool
    erase_scale: float = setting(above=0)
    preserve_scale: float | None = setting(least=0)
    ridge: float = setting(least=0)

    @property
    def reads(self) -> frozenset[str]:
        """All but the anchor where a guide takes its place."""
        return super().reads - (frozenset() if self.guide is None else {"anchor"})

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """The weight of what is retained, where nothing is."""
        return without_retained(["preserve_scale"], self.retained(concepts))

    @torch.no_grad()
    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Edits all selected projections at once."""
        self.check(model, concepts)
        rows, solution = self.solved(TextRows.encode(model, self.texts(concepts)), concepts)
        with select(model, self.parameters) as selection:
            weights = [parameter.data for parameter in selection.parameters.values()]
            values = {"condition": solution.condition}
            matrix = None
            if self.technique == "replace":
                matrix = solution.map(rows.erased, rows.targets)
                apply_map(weights, matrix)
                values |= effect(matrix, rows)
            else:
                for weight in weights:
                    weight += _orthogonal_change(weight.double(), rows, solution.readout).to(weight.dtype)
            context.log(values, 0)
            return finished(selection, [values], matrix)

    def pairs(self, concepts: ConceptSet) -> list[tuple[str, str]]:
        """What is erased and what takes its place, each in all templates."""
        return [
            (template.format(old), template.format(anchor if self.guide is None else self.guide))
            for concept in concepts.erase.values()
            for old, anchor in concept.pairs
            for template in self.templates
        ]

    def retained(self, concepts: ConceptSet) -> list[str]:
        """The texts that stay."""
        return [""] * self.retain_empty + concepts.retained

    def texts(self, concepts: ConceptSet) -> list[str]:
        """All texts that the edit works on."""
        return [text for pair in self.pairs(concepts) for text in pair] + self.retained(concepts)

    def solved(self, texts: TextRows, concepts: ConceptSet) -> tuple[Rows, Solution]:
        """The rows that the edit works on, and the solution of its system.

        Arguments:
            texts: At least :meth:`texts`, encoded.
            concepts: What is erased and what stays.
        """
        retained = self.retained(concepts)
        rows = token_rows(texts, self.pairs(concepts), retained, self.tokens)
        scale = self.preserve_scale
        solution = solve(
            rows.erased,
            rows.retained,
            erase_scale=self.erase_scale,
            preserve_scale=max(0.1, 1 / max(1, len(retained))) if scale is None else scale,
            ridge=self.ridge,
        )
        return rows, solution


def token_rows(
    texts: TextRows, pairs: Sequence[tuple[str, str]], retained: Sequence[str], tokens: str
) -> Rows:
    """The token rows of each text that an edit works on.

    Arguments:
        texts: All texts, encoded.
        pairs: What is erased, and what takes its place.
        retained: What stays.
        tokens: One of :data:`TOKENS`.
    """
    if tokens == "last":
        erased = [texts.tokens[old][texts.last[old]][None] for old, _ in pairs]
        targets = [texts.tokens[new][texts.last[new]][None] for _, new in pairs]
        kept = [texts.tokens[text][texts.last[text]][None] for text in retained]
    else:
        erased, targets = [], []
        for old, new in pairs:
            length = len(texts.tokens[old]) - max(texts.last[old], texts.last[new])
            erased.append(texts.tokens[old][texts.last[old] :][:length])
            targets.append(texts.tokens[new][texts.last[new] :][:length])
        kept = [texts.tokens[text] for text in retained]
    none = erased[0][:0]
    return Rows(torch.cat(erased).double(), torch.cat(targets).double(), condensed([none, *kept]))


def _orthogonal_change(weight: Tensor, rows: Rows, readout: Tensor) -> Tensor:
    """The change of one weight whose targets have no part along the outputs that the concept had.

    The direction is that of all rows together, as in the released ``train_uce.py``: one number per layer.
    """
    concept = rows.erased @ weight.T
    anchor = rows.targets @ weight.T
    direction = concept / concept.norm()
    change: Tensor = (anchor - (direction * anchor).sum() * direction - concept).T @ readout
    return change


def effect(matrix: Tensor, rows: Rows) -> dict[str, float]:
    r"""What a map does: ``change`` :math:`\|M - I\|`, ``residual`` of the erasure, ``drift`` of what stays.

    The residual is 0 where the concept's rows reach their targets and 1 where nothing has changed.
    """
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return {
        "change": float((matrix - identity).norm()),
        "residual": relative_distance(rows.erased @ matrix.T, rows.targets, rows.erased - rows.targets),
        "drift": relative_distance(rows.retained @ matrix.T, rows.retained, rows.retained),
    }
