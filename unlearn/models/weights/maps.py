r"""Edits of key and value projections by one matrix, as things of their own.

A closed-form edit sends every projection :math:`W`, with shape :math:`(o, d)`, to :math:`W M` with the same
:math:`M` for all of them; :mod:`unlearn.methods.closed_form.solver` says where it comes from. So the edit is
:math:`M` and the names of what it edits:

- edits made one after another multiply, :math:`M = M_1 M_2 \dots`, and the last one can be taken back;
- the original network on embeddings :math:`M e` does what the edited one does on :math:`e`;
- the change :math:`W (M - I)` is a LoRA, whose rank is that of :math:`M - I`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unlearn.errors import IncompatibleError
from unlearn.models.erasure import Erasure
from unlearn.models.model import Conditioning, DiffusionModel


def apply_map(weights: Sequence[Tensor], matrix: Tensor) -> None:
    """Replaces each weight :math:`W`, with shape :math:`(o, d)`, by :math:`W M`, in place.

    The change :math:`W (M - I)` is formed in float32, or float64 for float64 weights: :math:`M - I` comes
    from float64, and rounding one product adds less than rounding the result.
    """
    change = matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    changes: dict[torch.dtype, Tensor] = {}
    for weight in weights:
        wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
        if wide.dtype not in changes:
            changes[wide.dtype] = change.to(wide.dtype)
        weight.add_(wide @ changes[wide.dtype])


def mapped(conditioning: Conditioning, matrix: Tensor) -> Conditioning:
    """Prompts whose every token embedding :math:`e` is :math:`M e`: the edit without touching a weight."""
    tokens = conditioning.tokens.double() @ matrix.T.to(conditioning.tokens.device)
    return Conditioning(tokens.to(conditioning.tokens), conditioning.pooled)


def compose(model: DiffusionModel, erasures: Sequence[Erasure]) -> Erasure:
    """The edits one after another, each on the weights that the one before left.

    Erasing concepts one by one is not erasing them at once: a later edit moves what an earlier one mapped.

    Arguments:
        model: The original model.
        erasures: At least one, the first edit first.

    Raises:
        IncompatibleError: If one of them is not a map, or they edit different parameters.
    """
    first, *others = erasures
    matrix = _map(first)
    for other in others:
        if other.weights.keys() != first.weights.keys():
            raise IncompatibleError("maps: edits of different parameters do not make one map.")
        matrix = matrix @ _map(other)
    history = [row for erasure in erasures for row in erasure.history]
    return _edited(model, first, matrix, history)


def chained(model: DiffusionModel, before: Erasure, after: Erasure) -> Erasure:
    """Any two changes of weights, the second made on what the first left, as one of the original model.

    Arguments:
        model: The original model.

    Returns:
        The weights that the second left, or those of both maps' product; with the history of the second.

    Raises:
        IncompatibleError: If one of them acts while sampling.
    """
    if before.guard is not None or after.guard is not None:
        raise IncompatibleError("erasure: one that acts while sampling cannot be put on top of another.")
    maps = before.map is not None and after.map is not None
    if maps and before.weights.keys() == after.weights.keys():
        return replace(compose(model, [before, after]), history=after.history)
    return Erasure(weights={**before.weights, **after.weights}, history=after.history)


def undo(model: DiffusionModel, erasure: Erasure, last: Erasure) -> Erasure:
    """``erasure`` without its last edit; of ``compose(model, [a, b])`` and ``b``, that is ``a``.

    Arguments:
        model: The original model.

    Raises:
        IncompatibleError: If one of the two is not a map, or the last one cannot be inverted.
    """
    matrix, failed = torch.linalg.solve_ex(_map(last), _map(erasure), left=False)
    if int(failed):
        raise IncompatibleError("maps: the edit to take back is singular, so nothing can undo it.")
    return _edited(model, erasure, matrix, erasure.history[: -len(last.history) or None])


def low_rank(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of :math:`M - I` at its numerical rank :math:`r`.

    What is below the rounding of float32 factors is left out.

    Returns:
        :math:`D`, with shape :math:`(d, r)`, and :math:`X`, with shape :math:`(r, d)`: :math:`M - I = D X`.
    """
    change = matrix - torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    left, values, right = torch.linalg.svd(change)
    rank = max(1, int((values > torch.finfo(torch.float32).eps * values[0]).sum()))
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


def lora(model: DiffusionModel, erasure: Erasure) -> dict[str, Tensor]:
    """The edit as a LoRA, under the names that ``load_lora_weights`` of diffusers' pipelines reads.

    Arguments:
        model: The original model.

    Returns:
        ``….lora_A.weight``, :math:`X` with shape :math:`(r, d)`, and ``….lora_B.weight``, :math:`W D` with
        shape :math:`(o, r)`, for every edited projection; float32, and to be used with scale 1.

    Raises:
        IncompatibleError: If the erasure is not a map.
    """
    own = dict(model.named_parameters())
    left, right = low_rank(_map(erasure))
    found = {}
    for name in erasure.weights:
        module = name.removesuffix(".weight")
        found[f"{module}.lora_A.weight"] = right.float()
        found[f"{module}.lora_B.weight"] = (own[name].detach().cpu().double() @ left).float()
    return found


def _map(erasure: Erasure) -> Tensor:
    if erasure.map is None:
        raise IncompatibleError(
            "maps: this erasure is not one matrix for all projections, as those of method=uce and rece are."
        )
    return erasure.map.cpu()


def _edited(model: DiffusionModel, like: Erasure, matrix: Tensor, history: list[dict[str, float]]) -> Erasure:
    own = dict(model.named_parameters())
    weights = {name: own[name].detach().clone() for name in like.weights}
    apply_map(list(weights.values()), matrix.to(model.device))
    return Erasure(weights=weights, history=history, map=matrix)
