"""A mutant: one small mistake in one file."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One small mistake.

    Attributes:
        file: The file, relative to the root of the tree.
        kind: What kind of mistake it is.
        start: Where the text that it replaces begins, in bytes.
        end: Where that ends.
        text: What stands there instead.
        lines: The first and last line of the statement that is another; None outside of functions, where a
            line is run when the module is imported.
    """

    file: str
    kind: str
    start: int
    end: int
    text: str
    lines: tuple[int, int] | None

    def applied(self, source: bytes) -> bytes:
        """The file with the mistake."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def line(self, source: bytes) -> int:
        """The line where it is."""
        return source.count(b"\n", 0, self.start) + 1

    def change(self, source: bytes) -> tuple[str, str]:
        """The changed lines as they were and as they are, without indentation and line breaks."""
        before, after = source.decode().splitlines(), self.applied(source).decode().splitlines()
        (block,) = [
            one
            for one in difflib.SequenceMatcher(None, before, after, False).get_opcodes()
            if one[0] != "equal"
        ][:1]
        _, first, last, new_first, new_last = block
        return _joined(before[first:last]), _joined(after[new_first:new_last])

    def difference(self, source: bytes) -> str:
        """What is changed, as a unified diff with a line around it."""
        before, after = source.decode().splitlines(), self.applied(source).decode().splitlines()
        return "\n".join(list(difflib.unified_diff(before, after, lineterm="", n=1))[2:])

    def key(self, code: str) -> str:
        """Its name among the mutants of a tree whose code has the digest ``code``."""
        named = f"{code} {self.file} {self.start} {self.end} {self.text}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)
