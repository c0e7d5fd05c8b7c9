"""What ``concept=`` selects: concepts that are erased at once, or a sequence of them, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.concepts.sentences import says
from unlearn.errors import ConfigError, unknown

REWORDED = ("kind", "anchor", "retain")
"""What can be said of a single concept beside its wordings, for whichever of them the model takes."""


@dataclass(kw_only=True)
class ConceptChoice:
    """What ``concept=church`` selects.

    Attributes:
        name: Its name in results and run folders.
        worlds: Its wording by world of models, since a model knows only the words that it was trained on.
        sequence: The concepts to erase one after another, out of those that the worlds word; None erases all
            of these at once.
        kind: The kind of the one concept, in place of what its wording says; None leaves it as it is worded.
        anchor: What the model should show instead of the one concept, likewise.
        retain: Phrases that methods are given to keep beside the one concept, likewise. All else of a wording
            is set where it stands, and so are these of several concepts, as in
            ``concept.worlds.pocket.erase.church.retain``.
    """

    name: str
    worlds: dict[str, ConceptSet]
    sequence: list[str] | None = None
    kind: str | None = None
    anchor: str | None = None
    retain: list[str] | None = None

    def __post_init__(self) -> None:
        if self.sequence is not None:
            if len(self.sequence) < 2:
                raise ValueError(f"sequence: needs at least two concepts, got {self.sequence}")
            if twice := {name for name in self.sequence if self.sequence.count(name) > 1}:
                raise ValueError(f"sequence: a concept can be erased once only, got '{min(twice)}' again")

    def world(self, name: str) -> ConceptSet:
        """The concepts in the words of one world.

        Raises:
            ConfigError: If they are not worded for it, or those of a sequence get into each other's way.
        """
        if name not in self.worlds:
            raise ConfigError(f"concept.worlds: {unknown('world', name, self.worlds)}")
        known = self.worlds[name].erase
        if self.sequence is None:
            return self._reworded(name)
        for concept in self.sequence:
            if concept not in known:
                raise ConfigError(f"concept.sequence: {unknown('concept', concept, known)}")
        chosen = {concept: known[concept] for concept in self.sequence}
        _check_single(self._said, name, chosen)
        _check_apart(chosen)
        return ConceptSet(erase=chosen)

    @property
    def _said(self) -> dict[str, Any]:
        """What is said of the one concept here, in place of its wording."""
        return {key: getattr(self, key) for key in REWORDED if getattr(self, key) is not None}

    def _reworded(self, world: str) -> ConceptSet:
        concepts = self.worlds[world]
        if not self._said:
            return concepts
        _check_single(self._said, world, concepts.erase)
        ((name, concept),) = concepts.erase.items()
        try:
            return replace(concepts, erase={name: replace(concept, **self._said)})
        except ValueError as error:  # each line of its message begins with the name of a field
            raise ConfigError("\n".join(f"concept.{line}" for line in str(error).splitlines())) from None

    def steps(self, name: str) -> list[ConceptSet]:
        """The concepts of each step, in the words of one world; a single step without a sequence.

        A step knows what was erased before it. What its concepts bring with them, templates and what is to be
        retained, is left out as far as it says another concept that is gone by then: a model that may no more
        draw neon signs is not to learn from "a neon sign of a church".

        Raises:
            ConfigError: Like :meth:`world`; or if that leaves a concept without a template.
        """
        concepts = self.world(name)
        if self.sequence is None:
            return [concepts]
        steps = []
        for last in range(len(self.sequence)):
            gone = {own: concepts.erase[own] for own in self.sequence[: last + 1]}
            clean = {
                own: _without(
                    own, concept, [p for other in gone if other != own for p in gone[other].phrases]
                )
                for own, concept in gone.items()
            }
            now = self.sequence[last]
            steps.append(ConceptSet(erase={now: clean.pop(now)}, earlier=clean))
        return steps


def _check_single(said: Mapping[str, Any], world: str, concepts: Mapping[str, Concept]) -> None:
    """Raises ConfigError if something is said of the one concept, and there are several."""
    if said and len(concepts) > 1:
        key, value = next(iter(said.items()))
        raise ConfigError(
            f"concept.{key}: is for a single concept, got {value!r} for {len(concepts)}. Set it for each, as "
            f"in concept.worlds.{world}.erase.{next(iter(concepts))}.{key}."
        )


def _check_apart(concepts: dict[str, Concept]) -> None:
    """Raises ConfigError if erasing one concept of a sequence means erasing another, or its anchor."""
    for (one, first), (other, second) in combinations(concepts.items(), 2):
        for key in ("phrases", "labels"):
            if both := sorted(set(getattr(first, key)) & set(getattr(second, key))):
                raise ConfigError(
                    f"concept.sequence: '{one}' and '{other}' must not share {key}, got '{both[0]}' in both."
                )
    for name, concept in concepts.items():
        for other, erased in concepts.items():
            if said := [phrase for phrase in erased.phrases if says(concept.anchor, phrase)]:
                raise ConfigError(
                    f"concept.sequence: the anchor of '{name}' must be something that stays, got "
                    f"'{concept.anchor}', and '{other}' erases '{said[0]}'."
                )


def _without(name: str, concept: Concept, phrases: Iterable[str]) -> Concept:
    """The concept without templates and retained phrases that say any of ``phrases``."""
    gone = list(phrases)

    def kept(texts: Iterable[str]) -> list[str]:
        return [text for text in texts if not any(says(text, phrase) for phrase in gone)]

    templates = kept(concept.templates)
    if not templates:
        raise ConfigError(
            f"concept.sequence: every template of '{name}' says a concept that is erased by its step."
        )
    return replace(concept, templates=templates, retain=kept(concept.retain))
