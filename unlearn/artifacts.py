"""Results on disk, each under the fingerprint of all that it was made from.

An artifact is a folder ``<root>/<kind>/<fingerprint>`` that holds what a stage made, ``inputs.json`` (what it
was made from) and ``made.json`` (how long that took, what was warned of, and the SHA-256 of each file). It
appears whole or not at all: a stage fills a hidden folder beside it, which is renamed into place at the end.
"""

from __future__ import annotations

import enum
import fcntl
import hashlib
import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

from unlearn import stopping
from unlearn.errors import ArtifactError, ConfigError

INPUTS = "inputs.json"
MADE = "made.json"
PACKAGE = Path(__file__).parent


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
        made: ``<kind>/<fingerprint>`` of what this store made, in order.
        reused: ``<kind>/<fingerprint>`` of what it found, in order, each once.
    """

    root: Path
    force: bool = False
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
        with _lock(folder.parent / f".{folder.name}.lock"):
            if self._whole(folder, key, inputs):
                return folder
            unfinished = folder.parent / f".{folder.name}.tmp"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            try:
                start, before = time.perf_counter(), sum(self._uncounted)
                with _heard() as said:
                    make(unfinished)
                with stopping.finishing():  # what was made is not given up for the moment that this takes
                    seconds = time.perf_counter() - start - (sum(self._uncounted) - before)
                    made = {"seconds": seconds, "warnings": said, "files": _checksums(unfinished)}
                    _write(unfinished / MADE, made)
                    _write(unfinished / INPUTS, plain(inputs))
                    if folder.exists():
                        shutil.rmtree(folder)
                    unfinished.rename(folder)
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
        others = [differences(_inputs(path), plain(inputs)) for path in own.parent.glob(f"*/{INPUTS}")]
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
        if stored != json.loads(json.dumps(plain(inputs))):
            raise ArtifactError(
                f"{folder}: the artifact was made from other inputs than its name says. {mend}"
            )
        found = _checksums(folder)
        damaged = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
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
        unfinished = path.with_suffix(".tmp")
        _write(unfinished, plain(inputs))
        unfinished.replace(path)
    elif found := differences(_inputs(path), plain(inputs)):
        raise ConfigError(
            f"scratch: {folder} holds unfinished work with other settings: {listed(found)}. Take the same "
            "settings, or another folder."
        )


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


def seconds(folder: Path) -> float:
    """How long the artifact in ``folder`` took to make, in seconds."""
    return float(json.loads((folder / MADE).read_text())["seconds"])


def warned(folder: Path) -> list[str]:
    """What the package warned of while the artifact in ``folder`` was made."""
    return list(json.loads((folder / MADE).read_text())["warnings"])


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below ``folder``, by its relative path; the store's own two are left out."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (INPUTS, MADE):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Collects this package's own warnings; those of others go on to the log."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        yield said
    for warning in caught:
        if Path(warning.filename).is_relative_to(PACKAGE):
            said.append(str(warning.message))
        else:
            logging.getLogger("py.warnings").warning("%s: %s", warning.filename, warning.message)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds ``path`` for this process; the system lets go of it when the process ends, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
