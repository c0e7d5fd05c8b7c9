"""Where every random number comes from.

Each use of randomness names its scope, and its seed is a hash of the run's seed and that scope. So two uses
never share a stream, and a new use does not move the numbers of the others.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator


def derive_seed(seed: int, *scope: str | int) -> int:
    """The seed of one named use of randomness.

    Arguments:
        seed: The seed of the stage, one of ``seeds.erase``, ``seeds.attack`` and ``seeds.generate``.
        scope: Names the use, from the general to the particular.

    Returns:
        An integer in ``[0, 2**63)``, the same on every machine.
    """
    # Each part carries its type and length, so that ("a", "b") and ("a/b",), or 1 and "1", do not collide.
    text = "".join(f"{type(part).__name__}{len(str(part))}:{part}" for part in (seed, *scope))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *scope: str | int) -> Generator:
    """A generator for ``scope``, on the CPU so that its numbers do not depend on the device.

    Arguments:
        seed: The seed of the stage.
        scope: Names the use, as in :func:`derive_seed`.

    Returns:
        A generator that was seeded with ``derive_seed(seed, *scope)``.
    """
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *scope))
