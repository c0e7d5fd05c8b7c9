"""The prompts of a run: a set for each role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn.concepts.concept import ROLES, ConceptSet, PromptSet

ASKING = ROLES[:3]
"""The roles whose prompts ask for a concept."""


def prompt_sets(
    concepts: ConceptSet,
    limits: Mapping[str, int],
    search: Sequence[str | Path],
    seed: int,
    each: bool = False,
    split: str = "test",
) -> dict[str, PromptSet]:
    """The prompts of each role; none for a role that the concepts have no prompts for.

    Arguments:
        limits: How many to use at most, by role.
        search: Folders that are searched before the packaged prompt files.
        seed: Of the images; 0 keeps the seeds of the prompt files.
        each: Whether the limits of prompts that ask for a concept are for each concept alone.
        split: Which half of the prompts.
    """
    return {
        role: concepts.prompt_set(
            role, search, limits.get(role), each=each and role in ASKING, split=split
        ).reseeded(seed)
        for role in ROLES
    }
