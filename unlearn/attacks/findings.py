"""What is found for one prompt after another, so that an attack that is killed goes on where it was."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from unlearn.attacks.attack import AdversarialPrompts
from unlearn.concepts.concept import PromptSet
from unlearn.errors import ArtifactError, UnlearnWarning
from unlearn.system.heard import own_warnings
from unlearn.system.writing import write


class Finding(NamedTuple):
    """What was found for one prompt; see :class:`~unlearn.attacks.attack.AdversarialPrompts`."""

    prompt: str
    queries: int
    forwards: int
    found: bool | None
    objective: tuple[float, float] | None = None
    first: int | None = None


def gathered(findings: Sequence[Finding], prompts: PromptSet) -> AdversarialPrompts:
    """The findings for all of ``prompts``, in their order."""
    columns = list(zip(*findings, strict=True)) or [()] * len(Finding._fields)
    texts, queries, forwards, found, objective, first = columns
    if not any(objective):
        objective = ()
    if not any(first):
        first = ()
    return AdversarialPrompts(
        replace(prompts, prompts=texts), prompts.prompts, queries, forwards, found, objective, first
    )


def judged(success: bool, failed: bool) -> bool | None:
    """What is known of a prompt: that the concept showed, that it never did, or nothing where the detector
    failed on some image and the others did not show it.
    """
    return True if success else None if failed else False


def kept(folder: Path | None, name: str, make: Callable[[], Sequence[Finding]]) -> Sequence[Finding]:
    """What ``make`` gives, or gave under this name before a run was killed.

    Arguments:
        folder: Where unfinished work lies; None keeps none.
        make: What it warns of is kept as well, and said again.

    Raises:
        ArtifactError: If what lies there cannot be read.
    """
    if folder is None:
        return make()
    path = folder / f"{name}.json"
    if path.exists():
        try:
            content = json.loads(path.read_text("utf-8"))
            said = [str(text) for text in content["warnings"]]
            made: Sequence[Finding] = [
                Finding(text, queries, forwards, found, objective and (objective[0], objective[1]), first)
                for text, queries, forwards, found, objective, first in content["findings"]
            ]
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise ArtifactError(f"{path}: cannot be read ({error}). Remove it to attack again.") from None
    else:
        with own_warnings() as said:
            warnings.simplefilter("always", UnlearnWarning)
            made = make()
        write(path, json.dumps({"findings": made, "warnings": said}, ensure_ascii=False))
    for text in said:
        warnings.warn(text, UnlearnWarning, stacklevel=2)
    return made
