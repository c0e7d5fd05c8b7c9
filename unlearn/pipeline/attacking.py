"""Attacking: the prompts under which each attack brings the concept back.

What an attack finds without the erased model is shared by all methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Generator

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, bounded
from unlearn.attacks.guesses import GuessingAttack
from unlearn.attacks.guesses import load as load_guesses
from unlearn.attacks.guesses import save as save_guesses
from unlearn.concepts.concept import PromptSet
from unlearn.errors import UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.models.words import Words
from unlearn.pipeline.drawing import Drawing
from unlearn.pipeline.erasing import Erased
from unlearn.pipeline.judging import Judging, identity
from unlearn.seeding import generator
from unlearn.store.artifacts import Store
from unlearn.store.digests import digest
from unlearn.store.provenance import made_by


@dataclass(frozen=True)
class Attacked:
    """What an attack found.

    Attributes:
        attack: The attack.
        found: The prompts.
        folder: The artifact.
        guesses: That of what was found without the erased model, of an attack that does so.
    """

    attack: Attack
    found: AdversarialPrompts
    folder: Path
    guesses: Path | None = None

    @property
    def folders(self) -> list[Path]:
        """All artifacts of the attack."""
        return [self.folder] if self.guesses is None else [self.guesses, self.folder]


@dataclass(frozen=True)
class Trial:
    """An attack, and what it is tried on.

    Attributes:
        name: The attack's name; its prompt set is ``attack:<name>``.
        attack: The attack, within its budget.
        prompts: The prompts under attack.
        seed: The seed of the attacks.
    """

    name: str
    attack: Attack
    prompts: PromptSet
    seed: int


def attack(
    attacks: Mapping[str, Attack],
    plain: PromptSet,
    seed: int,
    erased: Erased,
    drawing: Drawing,
    judging: Judging,
) -> dict[str, Attacked]:
    """Runs each attack on the erased model, or finds what it found.

    Arguments:
        attacks: By name.
        plain: The prompts to attack, of which each attack chooses.
        seed: The seed of the attacks.
        erased: What was done to the original model.
    """
    original = {"concepts": judging.concepts, "source": erased.inputs["source"]}
    attacked = {
        "detectors": {
            name: identity(concept.detector, judging.detectors[concept.detector])
            for name, concept in judging.concepts.erase.items()
        },
        "erased": erased.inputs,
        "sampler": drawing.sampler,
    }

    def target(erasure: Erasure) -> Target:
        return Target(drawing.model(), erasure, judging.concepts, judging.by_concept(), drawing.sampler)

    done = {}
    for name, method in attacks.items():
        within = method.bounded(drawing.sampler, method.chosen(plain))
        trial = tried(name, within, plain, seed)
        guesses = guess(trial, partial(target, Erasure()), original, drawing.store)
        victim = partial(target, erased.erasure)
        found, folder = search(trial, victim, attacked, drawing.store, guesses, judging.failures)
        done[name] = Attacked(method, found, folder, guesses)
    return done


def learned(attacks: Mapping[str, Attacked]) -> dict[str, Words]:
    """The words that attacks learned, by the name of their prompt set."""
    words = {one.found.prompts.name: Words.load(one.folder) for one in attacks.values()}
    return {name: each for name, each in words.items() if each is not None}


def tried(name: str, attack: Attack, plain: PromptSet, seed: int) -> Trial:
    """An attack, on those of the plain prompts that it chooses."""
    return Trial(name, attack, replace(attack.chosen(plain), name=f"attack:{name}"), seed)


def guess(trial: Trial, target: Callable[[], Target], source: Mapping[str, Any], store: Store) -> Path | None:
    """What an attack finds without the erased model, or found in an earlier run; None if it needs to see it.

    Arguments:
        target: Gives the original model; called only if there is something to do.
        source: All that the original model and its concepts depend on.

    Returns:
        The folder that holds it.
    """
    method = trial.attack
    if not isinstance(method, GuessingAttack):
        return None
    inputs = _inputs(trial, source) | made_by(guess, method)

    def make(folder: Path) -> None:
        save_guesses(method.guess(target(), trial.prompts, _random(trial)), folder)

    return store.once("guesses", inputs, make)


def search(
    trial: Trial,
    target: Callable[[], Target],
    source: Mapping[str, Any],
    store: Store,
    guesses: Path | None = None,
    failures: int = 0,
) -> tuple[AdversarialPrompts, Path]:
    """What an attack finds for its prompts, or found in an earlier run.

    One that is killed leaves behind what it has found, and the next one goes on after that.

    Arguments:
        target: Gives the model under attack; called only if there is something to do.
        source: All that the erased model, its detector and its sampler depend on.
        guesses: What :func:`guess` gave.
        failures: For how many prompts the detector may fail.

    Returns:
        The prompts, and the folder that holds them.

    Raises:
        UnlearnError: If the detector fails, or failed in an earlier run, for more prompts than may.
    """
    inputs = _inputs(trial, source) | made_by(search, trial.attack)

    def make(folder: Path) -> None:
        within = replace(target(), scratch=store.scratch("attack", inputs), failures=failures)
        found = _found(trial, within, guesses)
        _check_kept(trial, found)
        found.save(folder)

    folder = store.once("attack", inputs, make)
    kept = AdversarialPrompts.load(folder)
    bounded(kept.found, failures)
    return kept, folder


def _inputs(trial: Trial, source: Mapping[str, Any]) -> dict[str, Any]:
    """All that what an attack finds depends on, beside its code."""
    inputs = {
        "attack": trial.attack,
        "name": trial.name,
        "prompts": trial.prompts,
        "seed": trial.seed,
        "source": source,
    }
    if trial.attack.files:
        inputs["files"] = [digest(path) for path in trial.attack.files]
    return inputs


def _random(trial: Trial) -> Generator:
    return generator(trial.seed, "attack", trial.name)


def _found(trial: Trial, target: Target, guesses: Path | None) -> AdversarialPrompts:
    if isinstance(trial.attack, GuessingAttack) and guesses is not None:
        return trial.attack.choose(target, trial.prompts, load_guesses(guesses), _random(trial))
    return trial.attack.attack(target, trial.prompts, _random(trial))


def _check_kept(trial: Trial, found: AdversarialPrompts) -> None:
    """Raises UnlearnError where an attack gives seeds or a name of its own."""
    kept = trial.attack.own_seeds or found.prompts.seeds == trial.prompts.seeds
    if not kept or found.prompts.name != trial.prompts.name:
        raise UnlearnError(f"eval.attacks.{trial.name}: must keep the seeds and the name of its prompts.")
