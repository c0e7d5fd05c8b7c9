"""Puts small mistakes into the code that scores, one at a time, and says which of them no test sees.

The mistakes are drawn at random from all that there are, and each is tried with the tests that run its line,
in a copy of the tree. What has been found out is kept in outputs/mutants, so that a second call goes on where
the first was stopped, and after a change of the tests tries what had lived. Ends with 1 where too few are
killed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.mutants.equivalent import HERE, equivalents
from scripts.mutants.plan import OURS
from scripts.mutants.said import said
from scripts.mutants.trial import drawn, every

KEPT = OURS.root / "outputs" / "mutants"


def main() -> int:
    """As the command line says."""
    parser = argparse.ArgumentParser(prog="scripts.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="how many are drawn (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="how many are tried at a time (default: 2)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="FILE", help="this file; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=60, help="tests of one may take (default: 60)")
    parser.add_argument("--least", type=float, default=90, help="percent to be killed (default: 90)")
    given = parser.parse_args()
    known = equivalents(HERE, OURS.root)
    chosen = drawn(OURS, given.only, given.count, given.seed)
    with tempfile.TemporaryDirectory(prefix="mutants-") as copies:
        verdicts = every(OURS, chosen, KEPT, Path(copies), given.jobs, given.seconds)
    sources = {one.file: (OURS.root / one.file).read_bytes() for one in chosen}
    text, share = said(verdicts, sources, known)
    print(text)
    return int(share < given.least)


if __name__ == "__main__":
    sys.exit(main())
