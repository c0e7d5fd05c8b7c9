"""Results on disk, each under the fingerprint of all that it was made from.

An artifact is a folder ``<root>/<kind>/<fingerprint>`` that holds what a stage made, ``inputs.json`` (what it
was made from) and ``made.json`` (how long that took, what was warned of, where and with what it was made, and
the SHA-256 of each file; whatever else gets into the folder is no part of it). It appears whole or not at
all: a stage fills a hidden folder beside it, which is renamed into place at the end.
"""

from __future__ import annotations

import enum
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

from unlearn.errors import ArtifactError, ConfigError
from unlearn.store.environment import Environment, environment
from unlearn.store.replacing import put
from unlearn.system import stopping
from unlearn.system.confidential import REFERENCE, redacted
from unlearn.system.heard import own_warnings
from unlearn.system.locks import held
from unlearn.system.writing import check_writable, write

INPUTS = "inputs.json"
MADE = "made.json"

LITTER = frozenset({"Thumbs.db", "desktop.ini"})
"""What a system leaves in the folders that a user opens, besides files that begin with a dot."""


def plain(value: Any) -> Any:
    """``value`` in terms of what JSON has.

    A dataclass becomes the mapping of its fields, with the name of its class under ``"class"``. Fields that
    its class lists in ``neutral`` are left out: they change how fast a result comes, not what it is.

    Arguments:
        value: Numbers, strings, paths, enumerations, dataclasses, and mappings, sequences and sets of these.

    Raises:
        TypeError: If ``value`` holds anything else, which could not be compared between two runs.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f.name for f in fields(value) if f.name not in getattr(value, "neutral", ())]
        return {"class": type(value).__name__} | {name: plain(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, PurePath):
        return value.as_posix()
    raise TypeError(f"fingerprint: cannot describe {type(value).__name__}, got {value!r}.")


def described(inputs: Mapping[str, Any]) -> Any:
    """``inputs`` as they are kept: in terms of JSON, without values of the environment."""
    return redacted(json.loads(json.dumps(plain(inputs))))


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """First 12 hex digits of the SHA-256 of ``inputs`` as canonical JSON.

    Arguments:
        inputs: Anything that :func:`plain` can describe.
    """
    text = json.dumps(plain(inputs), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Store:
    """A folder of artifacts that later runs find again.

    Attributes:
        root: Where the artifacts lie.
        force: Whether artifacts are made again, each once, even if they are there.
        device: Where the artifacts are made, as they say of themselves.
        made: ``<kind>/<fingerprint>`` of what this store made, in order.
        reused: ``<kind>/<fingerprint>`` of what it found, in order, each once.
    """

    root: Path
    force: bool = False
    device: str = "cpu"
    made: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    _uncounted: list[float] = field(default_factory=list, repr=False)

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        """Time spent in this block, as on loading a model, is not counted as making the artifact in hand."""
        start = time.perf_counter()
        yield
        self._uncounted.append(time.perf_counter() - start)

    def once(self, kind: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """The folder of the artifact made from ``inputs``; makes it if there is none yet.

        Of two processes that ask for the same artifact, the second waits for the first and takes its result.

        Arguments:
            kind: Groups artifacts into folders, as in ``erasure`` or ``images``.
            inputs: All that the artifact depends on.
            make: Fills the empty folder that it is given. If it raises or is killed, no artifact appears.

        Raises:
            ArtifactError: If the stored artifact is damaged or was made from other inputs.
            Stopped: If a signal has asked to stop.
        """
        stopping.check()
        folder, key = self._place(kind, inputs)
        if self._whole(folder, key, inputs):
            return folder
        waiting = f"another run makes {key}. Waiting for it to end."
        with held(folder.parent / f".{folder.name}.lock", waiting):
            if self._whole(folder, key, inputs):
                return folder
            unfinished = folder.parent / f".{folder.name}.tmp"
            if unfinished.exists():  # of a run that was killed
                shutil.rmtree(unfinished)
            unfinished.mkdir()
            try:
                start, before = time.perf_counter(), sum(self._uncounted)
                with own_warnings() as said:
                    make(unfinished)
                with stopping.finishing():  # what was made is not given up for the moment that this takes
                    seconds = time.perf_counter() - start - (sum(self._uncounted) - before)
                    made = {
                        "environment": environment(self.device),
                        "files": _checksums(unfinished),
                        "seconds": seconds,
                        "warnings": said,
                    }
                    _write(unfinished / MADE, made)
                    _write(unfinished / INPUTS, plain(inputs))
                    put(unfinished, folder)
                    shutil.rmtree(self._scratch(kind, folder.name), ignore_errors=True)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        self.made.append(key)
        return folder

    def scratch(self, kind: str, inputs: Mapping[str, Any]) -> Path:
        """A folder for the unfinished work on an artifact, such as the checkpoints of a training.

        It outlives a run that is killed, and is removed when :meth:`once` has put the artifact into place.
        """
        folder = self._scratch(kind, fingerprint(inputs))
        claim(folder, inputs)
        return folder

    def abandoned(self, kind: str, inputs: Mapping[str, Any], key: str) -> list[str]:
        """How ``inputs`` differ from those of the most similar unfinished work.

        Arguments:
            key: Work that differs in anything but settings below this key, as ``method``, does not count.

        Returns:
            See :func:`differences`; empty if there is no such work.
        """
        own = self._scratch(kind, fingerprint(inputs))
        others = [
            differences(redacted(_inputs(path)), described(inputs)) for path in own.parent.glob(f"*/{INPUTS}")
        ]
        alike = [found for found in others if all(each.startswith(f"{key}.") for each in found)]
        return min(alike, key=len, default=[])

    def _place(self, kind: str, inputs: Mapping[str, Any]) -> tuple[Path, str]:
        name = fingerprint(inputs)
        folder = self.root / kind / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder, f"{kind}/{name}"

    def _scratch(self, kind: str, name: str) -> Path:
        return self.root / "scratch" / kind / name

    def _whole(self, folder: Path, key: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the artifact can be taken as it is; checks its files when it is first met."""
        if key in self.made or key in self.reused:
            return True
        if self.force or not folder.exists():
            return False
        mend = "Remove the folder, or run again with force=true to make it anew."
        try:
            stored = json.loads((folder / INPUTS).read_text())
            expected = json.loads((folder / MADE).read_text())["files"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{folder}: the artifact has no readable description ({error}). {mend}"
            ) from None
        if redacted(stored) != described(inputs) and not REFERENCE.search(json.dumps(stored)):
            raise ArtifactError(
                f"{folder}: the artifact was made from other inputs than its name says. {mend}"
            )
        damaged = [name for name, known in sorted(expected.items()) if _checksum(folder / name) != known]
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            raise ArtifactError(
                f"{folder}: the artifact is damaged: {damaged[0]}{more} changed or missing. {mend}"
            )
        self.reused.append(key)
        return True


def claim(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Makes a folder of unfinished work on ``inputs``, or goes on with it.

    Raises:
        ConfigError: If what lies there is of other inputs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / INPUTS
    if not path.exists():
        _write(path, plain(inputs))
    elif found := differences(redacted(_inputs(path)), described(inputs)):
        raise ConfigError(
            f"scratch: {folder} holds unfinished work with other settings: {listed(found)}. Take the same "
            "settings, or another folder."
        )


def check_unused(folder: Path) -> None:
    """Finds out whether a folder that a user has named can take unfinished work: it is empty, or holds some.

    Raises:
        ConfigError: If it holds anything else, which must not be taken for ours, or cannot be written to.
    """
    check_writable(folder, "scratch")
    if not folder.is_dir() or _is_claim(folder / INPUTS):
        return
    if strange := [path for path in folder.iterdir() if not path.name.startswith(f".{INPUTS}.")]:
        raise ConfigError(
            f"scratch: {folder} holds files that are no unfinished work, such as {min(strange).name}. "
            "Give an empty folder, or one that does not exist yet."
        )


def _is_claim(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def differences(there: Any, here: Any, key: str = "") -> list[str]:
    """Keys with different values in two results of :func:`plain`, each with both of them."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        return [
            found
            for name in dict.fromkeys([*there, *here])
            for found in differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
        ]
    shown = (json.dumps(each) for each in (there, here))
    first, second = (text if len(text) <= 40 else f"{text[:39]}…" for text in shown)
    return [] if there == here else [f"{key} ({first} there, {second} here)"]


def listed(found: Sequence[str]) -> str:
    """The first few of :func:`differences`, as part of a sentence."""
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _inputs(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}). Remove {path.parent}.") from None


def content(path: Path) -> Any:
    """What a stage has left in its artifact as JSON.

    Raises:
        ArtifactError: If it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}). Run again with force=true.") from None


def seconds(folder: Path) -> float:
    """How long the artifact in ``folder`` took to make, in seconds."""
    return float(json.loads((folder / MADE).read_text())["seconds"])


def warned(folder: Path) -> list[str]:
    """What the package warned of while the artifact in ``folder`` was made."""
    return list(json.loads((folder / MADE).read_text())["warnings"])


def made_with(folder: Path) -> Environment:
    """Where and with what the artifact in ``folder`` was made."""
    found: Environment = json.loads((folder / MADE).read_text())["environment"]
    return found


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below ``folder``, by its relative path; the store's own two are left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        litter = path.name.startswith(".") or path.name in LITTER
        if not litter and name not in (INPUTS, MADE) and (checksum := _checksum(path)) is not None:
            found[name] = checksum
    return found


def _checksum(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, value: Any) -> None:
    write(path, json.dumps(redacted(value, ("files",)), indent=1, sort_keys=True) + "\n")
