"""What is said of the mutants in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from scripts.mutants.equivalent import Equivalent, reason
from scripts.mutants.mutant import Mutant
from scripts.mutants.verdicts import Verdict

Z = 1.959963984540054
"""The standard normal distribution's 97.5 % quantile."""

DEAD = ("killed", "timeout")


def said(
    verdicts: Mapping[Mutant, Verdict], sources: Mapping[str, bytes], known: list[Equivalent]
) -> tuple[str, float]:
    """All that is found out.

    Arguments:
        sources: The files.
        known: Mutants that are none.

    Returns:
        The text, and the share of mutants that were killed, in percent.
    """
    living = {one: verdict.what for one, verdict in verdicts.items() if verdict.what not in DEAD}
    reasons = {one: reason(one, sources[one.file], known) for one in living}
    same = {one: why for one, why in reasons.items() if why}
    counted = {one: verdict.what for one, verdict in verdicts.items() if one not in same}
    real = [one for one in living if one not in same]
    blocks = [_shown(one, sources[one.file], living[one]) for one in real]
    blocks += [_shown(one, sources[one.file], f"equivalent: {why}") for one, why in same.items()]
    dead = sum(what in DEAD for what in counted.values())
    low, high = wilson(dead, len(counted))
    summary = (
        f"{dead} of {len(counted)} killed: {100 * dead / max(1, len(counted)):.1f} % "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f}); {len(same)} equivalent ones are not counted"
    )
    return "\n\n".join([*blocks, _table(counted), summary]), 100 * dead / max(1, len(counted))


def wilson(dead: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a share, as in the metrics, which may be what is broken here."""
    if not n:
        return 0.0, 1.0
    share, scale = dead / n, 1 + Z**2 / n
    half = Z * ((share * (1 - share) + Z**2 / (4 * n)) / n) ** 0.5
    return (share + Z**2 / (2 * n) - half) / scale, (share + Z**2 / (2 * n) + half) / scale


def _shown(mutant: Mutant, source: bytes, what: str) -> str:
    head = f"{mutant.file}:{mutant.line(source)}  {mutant.kind}  {what}"
    return f"{head}\n{mutant.difference(source)}"


def _table(verdicts: Mapping[Mutant, str]) -> str:
    """Numbers for each file."""
    columns = (*DEAD, "survived", "unreached")
    width = max((len(one.file) for one in verdicts), default=4)
    lines = [f"{'file':<{width}}" + "".join(f"{column:>11}" for column in columns)]
    for file in sorted({one.file for one in verdicts}):
        counts = Counter(what for one, what in verdicts.items() if one.file == file)
        lines.append(f"{file:<{width}}" + "".join(f"{counts[column]:>11}" for column in columns))
    return "\n".join(lines)
