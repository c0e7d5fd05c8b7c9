"""How the name of a class is said in a configuration."""

from __future__ import annotations

import re


def snake(name: str) -> str:
    """The name of a class as a configuration says it: ``BlurEdges`` is ``blur_edges``, ``ESDStrict``
    ``esd_strict``.
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
