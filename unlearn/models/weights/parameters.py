"""Which parameters a method may change, and how it leaves the model as it was."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from unlearn.errors import ConfigError
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel

#: Named selections, as glob patterns over full parameter names; a pattern after ``!`` leaves out.
SELECTIONS: dict[str, tuple[str, ...]] = {
    "cross_attention": ("unet.*attn2.*",),
    "cross_attention_kv": ("unet.*attn2.to_k.*", "unet.*attn2.to_v.*"),
    "no_cross_attention": ("unet.*", "!unet.*attn2.*"),
    "denoiser": ("unet.*",),
    "text_encoder": ("text_encoder.*",),
}


class Selection:
    """The parameters under change, with their original values kept aside.

    Only the selected values are held twice, so that no second model is needed to compare with the original
    one.

    Attributes:
        parameters: The open parameters by full name, in the model's order.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self._originals = {name: parameter.data for name, parameter in parameters.items()}

    @contextmanager
    def original(self) -> Iterator[None]:
        """The original model, without gradients, as long as the block lasts."""
        changed = {name: parameter.data for name, parameter in self.parameters.items()}
        try:
            # Of the dtype that the parameters have now: a graph that is alive would lose them otherwise.
            self._point_to({name: self._originals[name].to(data) for name, data in changed.items()})
            with torch.no_grad():
                yield
        finally:
            self._point_to(changed)

    def changed(self) -> dict[str, Tensor]:
        """Copies of the values that differ from the original's, by full name."""
        return {
            name: parameter.detach().clone()
            for name, parameter in self.parameters.items()
            if not torch.equal(parameter.data, self._originals[name].to(parameter))
        }

    def _point_to(self, values: dict[str, Tensor]) -> None:
        # Moves pointers only; autograd's saved parameters see the values that are there when it runs
        # backwards.
        for name, parameter in self.parameters.items():
            parameter.data = values[name]


@contextmanager
def select(model: DiffusionModel, patterns: str | Sequence[str]) -> Iterator[Selection]:
    """Opens parameters for change and for gradients; on leaving, the model is as it was, bit for bit.

    Those of a model in half precision, in which small steps are rounded away, are float32 as long as they are
    open, and the model computes in mixed precision (see :attr:`DiffusionModel.half`).

    Arguments:
        patterns: Names in :data:`SELECTIONS` or glob patterns over full parameter names, one or several; a
            pattern after ``!`` leaves out.

    Raises:
        ConfigError: If a pattern matches no parameter.
    """
    parameters = matching(model, patterns)
    selection = Selection(parameters)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    half, dtype = model.half, model.dtype
    try:
        model.half = dtype if dtype in (torch.bfloat16, torch.float16) else None
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in parameters)
        for parameter in parameters.values():
            # The method works on a copy: the original values are never touched, not even by in-place
            # operations.
            wide = torch.promote_types(parameter.dtype, torch.float32)
            parameter.data = parameter.data.to(wide, copy=True)
        yield selection
    finally:
        model.half = half
        selection._point_to(selection._originals)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
            parameter.grad = None


def matching(model: DiffusionModel, patterns: str | Sequence[str]) -> dict[str, nn.Parameter]:
    """The parameters that :func:`select` would open, by full name, in the model's order.

    Raises:
        ConfigError: If a pattern matches no parameter.
    """
    globs = [
        glob
        for p in ([patterns] if isinstance(patterns, str) else patterns)
        for glob in SELECTIONS.get(p, (p,))
    ]
    named = dict(model.named_parameters())
    for glob in globs:
        if not any(fnmatchcase(name, glob.removeprefix("!")) for name in named):
            raise ConfigError(
                f"parameters: no parameter of this model matches '{glob}'. {_nearest(glob, named)}"
            )
    chosen = {
        name: parameter
        for name, parameter in named.items()
        if any(fnmatchcase(name, glob) for glob in globs if not glob.startswith("!"))
        and not any(fnmatchcase(name, glob[1:]) for glob in globs if glob.startswith("!"))
    }
    if not chosen:
        raise ConfigError(f"parameters: {globs} leaves out every parameter that it names.")
    return chosen


def drift(model: DiffusionModel, erasure: Erasure) -> float:
    r"""How far an erasure has moved the weights that it changed: :math:`\|W' - W\| / \|W\|` over them all."""
    own = dict(model.named_parameters())
    moved = length = 0.0
    for name, weight in erasure.weights.items():
        original = own[name].detach().double()
        moved += float((weight.to(original) - original).square().sum())
        length += float(original.square().sum())
    return math.sqrt(moved / length) if length else 0.0


def _nearest(glob: str, names: Iterable[str]) -> str:
    """Names like the pattern: selections, or words of parameter names for those that are in none."""
    bare = glob.removeprefix("!")
    near = get_close_matches(bare, SELECTIONS, n=2)
    if not near:
        words = {word for name in names for word in name.split(".")}
        strange = (word for word in re.split(r"[.*?\[\]]+", bare) if word and word not in words)
        near = [match for word in strange for match in get_close_matches(word, words, n=2)]
    known = ", ".join(sorted(SELECTIONS))
    return (f"Nearest: {', '.join(near)}. " if near else "") + f"Named selections: {known}."
