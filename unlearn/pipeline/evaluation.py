"""Generate once, score many.

Every metric says which images it needs; each set is drawn once, kept under the fingerprint of all that it
depends on, and read from disk by all metrics. The original model's images do not depend on the method, so all
methods share them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, bounded
from unlearn.attacks.guesses import GuessingAttack
from unlearn.attacks.guesses import load as load_guesses
from unlearn.attacks.guesses import save as save_guesses
from unlearn.concepts.concept import ROLES, ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet, image_name, write_image
from unlearn.errors import UnlearnError
from unlearn.metrics.metric import Evidence, Metric, Score
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler, Start, draw
from unlearn.models.words import Words, taught
from unlearn.seeding import generator
from unlearn.store.artifacts import Store
from unlearn.store.digests import digest
from unlearn.store.layout import Item
from unlearn.store.provenance import made_by
from unlearn.system import stopping
from unlearn.system.writing import share

BLANK = 2 / 255
"""An image whose values spread less than this shows nothing."""


def prompt_sets(
    concepts: ConceptSet,
    limits: Mapping[str, int],
    search: Sequence[str | Path],
    seed: int,
    each: bool = False,
) -> dict[str, PromptSet]:
    """The prompts of each role; none for a role that the concepts have no prompts for.

    Arguments:
        limits: How many to use at most, by role.
        search: Folders that are searched before the packaged prompt files.
        seed: Of the images; 0 keeps the seeds of the prompt files.
        each: Whether the limits of prompts that ask for a concept are for each concept alone.
    """
    return {
        role: concepts.prompt_set(role, search, limits.get(role), each=each and role in ROLES[:3]).reseeded(
            seed
        )
        for role in ROLES
    }


def guess(
    name: str,
    method: Attack,
    plain: PromptSet,
    store: Store,
    seed: int,
    target: Callable[[], Target],
    source: Mapping[str, Any],
) -> Path | None:
    """What an attack finds without the erased model, or found in an earlier run; None if it needs to see it.

    Arguments:
        name: The attack's name.
        seed: The seed of the attacks.
        target: Gives the original model; called only if there is something to do.
        source: All that the original model and its concepts depend on.

    Returns:
        The folder that holds it.
    """
    if not isinstance(method, GuessingAttack):
        return None
    prompts, inputs = _under_attack(name, method, plain, seed, source)
    inputs |= made_by(guess, method)

    def make(folder: Path) -> None:
        save_guesses(method.guess(target(), prompts, generator(seed, "attack", name)), folder)

    return store.once("guesses", inputs, make)


def attack(
    name: str,
    method: Attack,
    plain: PromptSet,
    store: Store,
    seed: int,
    target: Callable[[], Target],
    source: Mapping[str, Any],
    guesses: Path | None = None,
    failures: int = 0,
) -> tuple[AdversarialPrompts, Path]:
    """What an attack finds for the first plain prompts, or found in an earlier run.

    One that is killed leaves behind what it has found, and the next one goes on after that.

    Arguments:
        name: The attack's name; its prompt set is ``attack:<name>``.
        seed: The seed of the attacks.
        target: Gives the model under attack; called only if there is something to do.
        source: All that the erased model, its detector and its sampler depend on.
        guesses: What :func:`guess` gave.
        failures: For how many prompts the detector may fail.

    Returns:
        The prompts, and the folder that holds them.

    Raises:
        UnlearnError: If the detector fails, or failed in an earlier run, for more prompts than may.
    """
    prompts, inputs = _under_attack(name, method, plain, seed, source)
    inputs |= made_by(attack, method)

    def make(folder: Path) -> None:
        within = replace(target(), scratch=store.scratch("attack", inputs), failures=failures)
        random = generator(seed, "attack", name)
        if isinstance(method, GuessingAttack) and guesses is not None:
            found = method.choose(within, prompts, load_guesses(guesses), random)
        else:
            found = method.attack(within, prompts, random)
        kept = method.own_seeds or found.prompts.seeds == prompts.seeds
        if not kept or found.prompts.name != prompts.name:
            raise UnlearnError(f"eval.attacks.{name}: must keep the seeds and the name of its prompts.")
        found.save(folder)

    folder = store.once("attack", inputs, make)
    kept = AdversarialPrompts.load(folder)
    bounded(kept.found, failures)
    return kept, folder


def _under_attack(
    name: str, method: Attack, plain: PromptSet, seed: int, source: Mapping[str, Any]
) -> tuple[PromptSet, dict[str, Any]]:
    """The prompts that an attack is tried on, and all that what it finds for them depends on."""
    prompts = replace(method.chosen(plain), name=f"attack:{name}")
    inputs = {
        "attack": method,
        "name": name,
        "prompts": prompts,
        "seed": seed,
        "source": source,
    }
    if method.files:
        inputs["files"] = [digest(path) for path in method.files]
    return prompts, inputs


def generate(
    request: ImageRequest,
    prompts: PromptSet,
    model: Callable[[], DiffusionModel],
    erasure: Erasure,
    sampler: Sampler,
    store: Store,
    sources: Mapping[str, Mapping[str, Any]],
    words: Words | None = None,
) -> ImageSet:
    """Draws the images of one request, or finds them.

    A run that is killed leaves finished batches behind, and the next one goes on after them. An erasure that
    changes nothing gives the original model, whose images are not drawn a second time.

    Arguments:
        request: Which images.
        prompts: The prompts of the request.
        model: Gives the original model; called only if there is something to draw.
        erasure: What the method did.
        sampler: How to draw.
        sources: All that the ``original`` model depends on, and all that the ``erased`` one does.
        words: Learned words that the prompts say, if any.
    """
    if not len(prompts):
        return ImageSet(request, prompts, store.root)
    same = request.model == "original" or (not erasure.weights and erasure.guard is None)
    applied = Erasure() if same else erasure
    inputs = {
        "prompts": prompts.prompts,
        "sampler": sampler,
        "seeds": prompts.seeds,
        "source": sources["original" if same else "erased"],
        **made_by(generate, sampler),
    }
    if words is not None:
        inputs["words"] = words.fingerprint()

    def make(folder: Path) -> None:
        unfinished = store.scratch("images", inputs)
        with model().erased(applied) as erased, taught(erased, words):
            draw_missing(erased, prompts, sampler, applied.guard, unfinished, str(request))
        for index in range(len(prompts)):
            # Not moved: what is drawn must outlive a full disk, or a kill, before the artifact is whole.
            share(unfinished / image_name(index), folder / image_name(index))

    return ImageSet(request, prompts, store.once("images", inputs, make))


def draw_missing(
    model: DiffusionModel,
    prompts: PromptSet,
    sampler: Sampler,
    guard: Guard | None,
    folder: Path,
    name: str,
    start: Start | None = None,
) -> None:
    """Writes the images that ``folder`` lacks, in whole batches: each image keeps its neighbours.

    Arguments:
        model: The model as it is to draw.
        name: What the images are called in progress and errors.
        start: Images to start from, one for each prompt, if given.
    """
    from tqdm import tqdm

    done = 0
    while done < len(prompts) and (folder / image_name(done)).exists():
        done += 1
    if done < len(prompts):
        done -= done % sampler.batch_size
    with tqdm(total=len(prompts), initial=done, desc=name, unit="image", disable=None) as bar:
        rest = slice(done, None)
        rows = (prompts.prompts[rest], prompts.seeds[rest])
        begun = None if start is None else start[rest]
        for images in draw(model, *rows, sampler, guard=guard, start=begun):
            with stopping.finishing():  # half a batch would be drawn again
                for image in images:
                    if not bool(image.isfinite().all()):
                        raise UnlearnError(
                            f"{name}: the image of '{prompts.prompts[done]}' (seed {prompts.seeds[done]}) is "
                            "not finite. Try model.dtype=float32; else the erasure has broken the model."
                        )
                    write_image(folder / image_name(done), image)
                    done += 1
            bar.update(len(images))


def score(metrics: Mapping[str, Metric], evidence: Evidence) -> tuple[dict[str, Score], list[str]]:
    """Every metric's value.

    Returns:
        The scores that are defined, and sentences about what makes a number doubtful, undefined ones among
        them.
    """
    scores, warnings = {}, _blanks(evidence.images)
    for name, metric in metrics.items():
        found = metric.score(evidence)
        warnings += [f"{name}: {warning}" for warning in found.warnings]
        if found.value is not None:
            scores[name] = found
    return scores, warnings


def part(
    metrics: Mapping[str, Metric], scores: Mapping[str, Score], evidence: Evidence, concepts: Sequence[str]
) -> dict[str, Score]:
    """The scores over the prompts of some concepts alone, as far as they are means over single images.

    Arguments:
        scores: What :func:`score` found.
        concepts: Names of concepts.
    """
    found = {name: metrics[name].part(one, evidence, concepts) for name, one in scores.items()}
    return {name: one for name, one in found.items() if one is not None}


def _blanks(images: Mapping[ImageRequest, ImageSet]) -> list[str]:
    """A warning about image sets with images that show nothing: no detector sees anything in these."""
    warnings = []
    for request, drawn in images.items():
        count = sum(int((batch.std(dim=(1, 2, 3)) < BLANK).sum()) for batch in drawn.batches(64))
        if count:
            warnings.append(
                f"{request}: {count} of {len(drawn)} images are blank. They count as not showing the "
                "concept, which is no erasure."
            )
    return warnings


def items(
    images: Mapping[ImageRequest, ImageSet],
    scores: Mapping[str, Score],
    attacks: Mapping[str, AdversarialPrompts],
    folder: Path,
) -> list[Item]:
    """Each image with what the metrics said of it, as ``items.jsonl`` holds it.

    Arguments:
        attacks: What each attack found, by its name.
        folder: The run folder, which the images' paths are relative to.
    """
    found: list[Item] = []
    for request, drawn in images.items():
        said = {name: one.per_image[request] for name, one in scores.items() if request in one.per_image}
        for index, prompt in enumerate(drawn.prompts.prompts):
            item: Item = {
                "prompts": request.prompts,
                "model": "original" if request.model == "original" else "erased",
                "index": index,
                "prompt": prompt,
                "seed": drawn.prompts.seeds[index],
                "image": os.path.relpath(drawn.path(index), folder),
                "scores": {name: row[index] for name, row in said.items() if row[index] == row[index]},
            }
            if request.prompts.startswith("attack:"):
                item["plain"] = attacks[request.prompts.removeprefix("attack:")].plain[index]
            found.append(item)
    return found
