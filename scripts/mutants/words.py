"""What may stand in place of what, and what no test is to look at."""

from __future__ import annotations

#: Operators and what stands in their place.
OPERATORS = {
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "//": ("/",), "%": ("*",), "**": ("*",), "@": ("*",),
    "|": ("&",), "&": ("|",), "<<": (">>",), ">>": ("<<",), "and": ("or",), "or": ("and",),
    "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"), ">=": (">", "<="), "==": ("!=",), "!=": ("==",),
    "is": ("is not",), "is not": ("is",), "in": ("not in",), "not in": ("in",),
}  # fmt: skip


def _either(pairs: str) -> dict[str, str]:
    """Each of some pairs in place of the other."""
    both = [pair.split("/") for pair in pairs.split()]
    return {one: other for pair in both for one, other in (pair, pair[::-1])}


#: Functions, methods and attributes of which one is easily taken for the other.
FUNCTIONS = {
    **_either(
        "min/max any/all amin/amax minimum/maximum clamp_min/clamp_max union/intersection "
        "startswith/endswith prompts/seeds queries/forwards judged/failed after/before"
    ),
    "nanmean": "mean",
    "sorted": "list",
}

#: Variables of which one is easily taken for the other, where a function has both.
VARIABLES = _either(
    "erased/original before/after gained/lost own/chance low/high lower/upper found/shown x/y xx/yy "
    "mean_x/mean_y cov_x/cov_y first/last both/pairs evidence/images prompts/plain with_attack/before "
    "name/control concept/name kept/shown own/value"
)

#: Calls whose arguments are words for people, or ranges that tests/test_ranges_of_settings.py goes through.
SAID = {
    "print",
    "log",
    "debug",
    "info",
    "warning",
    "tqdm",
    "set_postfix",
    "setting",
    "field",
    "dataclass",
    "unknown",
    "cast",
}

#: Functions that do not care which argument comes first.
EITHER_WAY = {"min", "max", "minimum", "maximum"}

#: Arguments that are words for people, or that only check what is so anyway.
ASIDE = {"strict", "desc", "unit", "repr", "reason", "encoding"}

#: Variables that count.
COUNTERS = {"i", "j", "index", "number", "first", "last"}
