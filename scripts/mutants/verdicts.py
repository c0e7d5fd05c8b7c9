"""What became of each mutant, kept from call to call."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: Its key.
        what: ``killed``, ``timeout``, ``survived``, or ``unreached`` where no test runs it.
        by: The test that failed, if one did.
        tests: Digest of the file of that test; of all test files for one that lives.
        seconds: How long it took.
    """

    mutant: str
    what: str
    by: str
    tests: str
    seconds: float


class Verdicts:
    """The verdicts that hold for the tests as they are.

    One that was killed stays so while the file of the test that killed it is the same; one that lives is
    tried anew after any test has changed.

    Arguments:
        path: A file of JSON lines, to which verdicts are added.
        tests: Digest of each test file.
    """

    def __init__(self, path: Path, tests: dict[str, str]) -> None:
        self._path, self._tests, self._lock = path, tests, threading.Lock()
        rows = path.read_text().splitlines() if path.exists() else []
        self._known = {row["mutant"]: Verdict(**row) for row in map(json.loads, rows)}

    def proof(self, by: str) -> str:
        """The digest that a verdict rests on."""
        file = by.split("::")[0]
        if file in self._tests:
            return self._tests[file]
        return hashlib.sha256(json.dumps(self._tests, sort_keys=True).encode()).hexdigest()[:16]

    def get(self, mutant: str) -> Verdict | None:
        """The verdict about a mutant, if there is one that holds."""
        found = self._known.get(mutant)
        return found if found is not None and found.tests == self.proof(found.by) else None

    def add(self, verdict: Verdict) -> None:
        """Keeps a verdict."""
        with self._lock:
            self._known[verdict.mutant] = verdict
            with self._path.open("a") as file:
                print(json.dumps(asdict(verdict)), file=file)
