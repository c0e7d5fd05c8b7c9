"""What a run leaves behind: ``results.json``, and ``items.jsonl`` with one line for each image.

Both files are contracts: their keys, units and meaning are those of the classes below (``docs/results.md``
says the same in prose), and :data:`SCHEMA` changes whenever one of them does. They hold no NaN and no
infinity, and no number stands for a missing one: what could not be measured is ``null`` or is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from unlearn.errors import ArtifactError
from unlearn.store.layout import SCHEMA, Item, Results, ScoreEntry
from unlearn.store.ranges import impossible, impossible_items
from unlearn.store.validation import parsed, problems
from unlearn.system.confidential import redacted
from unlearn.system.writing import write


def read_results(folder: Path) -> Results:
    """Reads ``results.json`` of a run folder.

    Raises:
        ArtifactError: If there is none, or a key is missing or wrong, or a number is one that cannot be; the
            message names the key.
    """
    path = Path(folder) / "results.json"
    try:
        found = parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not found. Is this the folder of a run that has finished?") from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: is damaged ({error}). Repeat the run to write it anew.") from None
    _refuse(path, problems(found, Results, ""))
    results: Results = found
    if results["schema"] != SCHEMA:
        raise ArtifactError(f"{path}: schema: must be {SCHEMA}, got {results['schema']}. Repeat the run.")
    _refuse(path, impossible(results))
    return results


def write_results(folder: Path, results: Results) -> Path:
    """Writes ``results.json`` of a run folder, whole or not at all.

    Raises:
        ArtifactError: If ``results`` is not what :class:`Results` describes (a NaN, for one).
    """
    path = Path(folder) / "results.json"
    _refuse(path, problems(results, Results, "", strict=True))
    _refuse(path, impossible(results))
    text = json.dumps(redacted(results, ("path",)), indent=2, ensure_ascii=False, allow_nan=False)
    return write(path, text + "\n")


def read_items(folder: Path, scores: Mapping[str, ScoreEntry] = MappingProxyType({})) -> list[Item]:
    """Reads ``items.jsonl`` of a run folder; an empty list if the run has none.

    Arguments:
        scores: Those of ``results.json``, whose units say which numbers an image can have.

    Raises:
        ArtifactError: If a line is damaged; the message names the line.
    """
    path = Path(folder) / "items.jsonl"
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}).") from None
    items: list[Item] = []
    # Not splitlines(): a prompt may hold what Python takes for the end of a line, and JSON does not.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        try:
            found = parsed(line)
        except ValueError as error:
            raise ArtifactError(f"{path}: line {number} is no JSON ({error}).") from None
        _refuse(path, problems(found, Item, f"line {number}"))
        items.append(found)
    _refuse(path, impossible_items(items, scores))
    return items


def write_items(folder: Path, items: Iterable[Item]) -> Path:
    """Writes ``items.jsonl`` of a run folder, whole or not at all.

    Raises:
        ArtifactError: If an item is not what :class:`Item` describes.
    """
    path = Path(folder) / "items.jsonl"
    lines = []
    for number, item in enumerate(items, start=1):
        _refuse(path, problems(item, Item, f"line {number}", strict=True))
        lines.append(json.dumps(item, ensure_ascii=False, allow_nan=False) + "\n")
    return write(path, "".join(lines))


def _refuse(path: Path, problems: Iterator[str]) -> None:
    if found := list(problems):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ArtifactError(f"{path}: {found[0]}{more}")
