"""Thorough and reliable concept erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.concepts.sentences import fill
from unlearn.errors import ConfigError, unknown
from unlearn.methods.captions import captions
from unlearn.methods.closed_form.solver import Solution, TextRows, mean_gram, solve
from unlearn.methods.closed_form.trce.steering import Steering
from unlearn.methods.closed_form.uce import Rows, effect
from unlearn.methods.method import Context, Method, finished, of_other_kinds
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel
from unlearn.models.weights.maps import apply_map
from unlearn.models.weights.parameters import matching, select
from unlearn.settings import setting

GROUPS = ("start", "first_end", "last_end", "phrase")
INDICES = ("exact", "whitespace")


@dataclass(kw_only=True)
class TRCE(Method):
    r"""Maps the end token of a concept's sentences to that of safe ones, then steers early denoising.

    **First stage.** The end token of CLIP carries the meaning of a prompt. In many sentences :math:`i`, once
    with the concept and once with its anchor, the keys and values of cross-attention are made to treat the
    one's first end token :math:`e_i` as the other's :math:`e^*_i`:

    .. math::
        \min_W \frac{1}{N} \sum_i \sum_g \omega_g b_{ig} \| W e_{ig} - W_0 e^*_{ig} \|^2
        + \frac{\rho}{C} \sum_j \| (W - W_0) R_j^\top \|^2

    over groups :math:`g` of tokens, of which only the first end token has a weight :math:`\omega_g` in the
    paper, and over all tokens :math:`R_j` of :math:`C` captions. It is one matrix for all projections; see
    :mod:`unlearn.methods.closed_form.solver`.

    **Second stage.** Self-attention and the queries of cross-attention are trained on early latents of
    trajectories for the concept: predictions with its sentence and with none have to be nearer, by a margin
    in mean squared error, to the original's guided prediction for the anchor than to that for the concept.
    Other predictions without a prompt are held; see
    :class:`~unlearn.methods.closed_form.trce.steering.Steering`.

    The captions are 30,000 of COCO in the authors' code. They do not ship with this package: here they are
    what is retained, in the concept's sentences, and unrelated words in packaged ones, weighed so that a mean
    caption counts as there. The sentences are ours, too.

    The released code takes the number of words for the position of the end token (``index: whitespace``), so
    that for many of its sentences a part of the concept's last word is mapped and the end token is not;
    ``exact`` asks the tokenizer, as the paper means it. It has no ridge and inverts in float32 what has a
    condition number of :math:`10^{11}`; the small relative ridge here is needed to have a solution at all.

    References:
        | TRCE: Towards Reliable Malicious Concept Erasure (Chen et al., 2025)
        | https://arxiv.org/abs/2503.07389

    Attributes:
        parameters: The weights that the first stage edits, each of shape :math:`(o, d)` with :math:`d` the
            width of the text embeddings.
        index: Where the first end token is: ``exact``, by the tokenizer, or ``whitespace``, by the number of
            words, as released.
        token_weights: :math:`\omega_g` by group: ``start``, ``first_end``, ``last_end`` (:math:`b` is the
            number of end tokens after the first; 1 elsewhere), and ``phrase``, whose tokens, or with
            ``whitespace`` the first word's, are mapped to the anchor sentence's last one.
        sentences: Sentences around each phrase, out of the concept's own or the packaged ones.
        preserve_scale: :math:`\rho` by kind of concept: the weight of a mean caption beside a mean pair.
        relative_ridge: Pull towards the weights as they are, in units of the system's mean eigenvalue.
        steering: The second stage; None leaves it out.
    """

    paper: ClassVar[str] = "2503.07389"
    requires: ClassVar[frozenset[str]] = frozenset({"cross_attention"})

    parameters: list[str]
    index: str = setting(choices=INDICES)
    token_weights: dict[str, float] = setting(keys=GROUPS, kind="group", least=0)
    sentences: int = setting(least=1)
    preserve_scale: dict[str, float] = setting(above=0)
    relative_ridge: float = setting(least=0)
    steering: Steering | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.token_weights.values()):
            raise ValueError("token_weights: one must be above 0")

    @property
    def reads(self) -> frozenset[str]:
        """The kind as well."""
        return super().reads | {"kind"}

    @property
    def random(self) -> bool:  # type: ignore[override]
        """Only the second stage draws."""
        return self.steering is not None

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Other kinds, and the second stage where no concept is steered."""
        found = of_other_kinds("preserve_scale", self.preserve_scale, concepts)
        if self.steering is not None:
            if not self.steering.pairs(concepts):
                parts = [f"steering.{part.name}" for part in fields(self.steering) if part.name != "kinds"]
                found |= dict.fromkeys(parts, "It counts for concepts of steering.kinds.")
            elif not self.steering.preserve_scale:
                found["steering.preserve_batch_size"] = "It counts with steering.preserve_scale above 0."
        return found

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """Edits all selected projections at once, then trains what the second stage trains."""
        self.check(model, concepts)
        steering = self.steering if self.steering and self.steering.pairs(concepts) else None
        if steering is not None:
            matching(model, steering.parameters)  # complains before anything is drawn
        rows, prior, solution = self.solved(model, concepts)
        matrix = solution.map(rows.erased, rows.targets)
        values = {"condition": solution.condition, **effect(matrix, rows), "drift": drift(matrix, prior)}
        with select(model, self.parameters) as edited:
            apply_map([parameter.data for parameter in edited.parameters.values()], matrix)
            context.log(values, 0)
            first = finished(edited, [values], matrix)
            if steering is None:
                return first
            second = steering.steer(model, concepts, edited, context)
        history = [{**values, **second.history[0]}, *second.history[1:]]
        return Erasure(weights={**first.weights, **second.weights}, history=history)

    def solved(self, model: DiffusionModel, concepts: ConceptSet) -> tuple[Rows, Tensor, Solution]:
        """The first stage: weighted rows, the captions' mean Gram matrix, and the solution of the system."""
        total = sum(len(c.phrases) * len(c.sentences[: self.sentences]) for c in concepts.erase.values())
        erased, targets = [], []
        for name, concept in concepts.erase.items():
            if concept.kind not in self.preserve_scale:
                known = unknown("kind", concept.kind, self.preserve_scale)
                raise ConfigError(f"method.preserve_scale: for concept '{name}': {known}")
            # Only the ratio to the captions' weight matters, which is 1 for all kinds.
            scale = 1 / (total * self.preserve_scale[concept.kind])
            for old, new in self._rows(model, concept):
                erased.append(scale**0.5 * old)
                targets.append(scale**0.5 * new)
        rows = Rows(torch.cat(erased), torch.cat(targets), erased[0][:0])
        prior = mean_gram(model, captions(concepts, self.sentences))
        solution = solve(
            rows.erased,
            rows.retained,
            erase_scale=1.0,
            preserve_scale=1.0,
            ridge=0.0,
            relative_ridge=self.relative_ridge,
            prior=prior,
        )
        return rows, prior, solution

    def _rows(self, model: DiffusionModel, concept: Concept) -> list[tuple[Tensor, Tensor]]:
        """Rows of each sentence and of its safe counterpart, longer by the root of their weights."""
        templates = concept.sentences[: self.sentences]
        triples = [
            (phrase, fill(template, phrase), fill(template, concept.anchor))
            for phrase in concept.phrases
            for template in templates
        ]
        texts = TextRows.encode(model, [text for _, old, new in triples for text in (old, new)])
        found = []
        for phrase, old, new in triples:
            positions = self._positions(model, texts, phrase, old, new)
            chosen = [entry for entry in positions if entry[2] > 0]
            roots = torch.tensor([weight for _, _, weight in chosen], dtype=torch.float64).sqrt()[:, None]
            roots = roots.to(texts.tokens[old].device)
            found.append(
                (
                    roots * texts.tokens[old][[position for position, _, _ in chosen]].double(),
                    roots * texts.tokens[new][[position for _, position, _ in chosen]].double(),
                )
            )
        return found

    def _positions(
        self, model: DiffusionModel, texts: TextRows, phrase: str, old: str, new: str
    ) -> list[tuple[int, int, float]]:
        """Position in the old sentence, in the new one, and weight, of each mapped token."""
        weights: Mapping[str, float] = {group: self.token_weights.get(group, 0.0) for group in GROUPS}
        last = len(texts.tokens[old]) - 1
        if self.index == "whitespace":
            end, new_end = len(old.split()) + 1, len(new.split()) + 1
            mapped: Sequence[int] = [len(old[: old.index(phrase)].split()) + 1]
        else:
            end, new_end = texts.last[old] + 1, texts.last[new] + 1
            mapped = _span(model, phrase, old) if weights["phrase"] else []
        return [
            (0, 0, weights["start"]),
            (end, new_end, weights["first_end"]),
            (last, last, weights["last_end"] * (last - end)),
            *((position, last, weights["phrase"]) for position in mapped),
        ]


def drift(matrix: Tensor, gram: Tensor) -> float:
    r"""How far a map moves embeddings of the Gram matrix :math:`G`, as a share of their length.

    It is :math:`\sqrt{\mathrm{tr} (M - I) G (M - I)^\top / \mathrm{tr}\, G}`.
    """
    change = matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return float((((change @ gram) * change).sum() / gram.trace()).clamp(min=0).sqrt())


def _span(model: DiffusionModel, phrase: str, sentence: str) -> Sequence[int]:
    """Positions of a phrase's tokens in a sentence.

    Raises:
        ConfigError: If the tokenizer joins the phrase with what stands beside it.
    """
    end = model.tokenizer.eos_token_id
    wanted, ids = (row.tolist() for row in model.tokenize([phrase, sentence]))
    wanted = wanted[1 : wanted.index(end)]
    for start in range(1, len(ids) - len(wanted)):
        if ids[start : start + len(wanted)] == wanted:
            return range(start, start + len(wanted))
    raise ConfigError(
        f"method.token_weights.phrase: the tokens of '{phrase}' do not stand in those of '{sentence}'."
    )
