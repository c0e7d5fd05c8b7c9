"""Resurging: images of the erased model where it is used further, for every curve.

For every curve the erased model, and where it tells something the original one, is drawn from at each place
of an axis, for the same prompts and seeds. All images of one curve and one model are one artifact: those that
were drawn before a run was killed are kept, and so is the training between them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet, image_name
from unlearn.errors import ArtifactError
from unlearn.methods.method import Context, Meter
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler, Start
from unlearn.pipeline.drawing import Drawing, applied, draw_missing, image_set
from unlearn.pipeline.erasing import Erased
from unlearn.resurgence.resurgence import Place, Resurgence, Show, Subject
from unlearn.seeding import derive_seed
from unlearn.store.provenance import made_by
from unlearn.system.writing import share

ROLE = "plain"
"""The prompts that curves are drawn for."""


@dataclass(frozen=True)
class Drawn:
    """The images of one curve.

    Attributes:
        resurgence: What was done.
        places: Where: first the one at which the erased model is drawn from as it is.
        erased: Images of each place.
        original: The original model's, likewise; only those of the first place where it is not put to the
            test.
        folders: The artifacts, by the model, ``erased`` or ``original``.
    """

    resurgence: Resurgence
    places: list[Place]
    erased: list[ImageSet]
    original: list[ImageSet]
    folders: dict[str, Path]


@dataclass(frozen=True)
class Course:
    """What a curve is drawn of.

    Attributes:
        name: The curve's name.
        resurgence: What is done.
        prompts: What images are drawn for at each place.
        concepts: What was erased.
        seed: The seed of the attacks.
    """

    name: str
    resurgence: Resurgence
    prompts: PromptSet
    concepts: ConceptSet
    seed: int


def resurge(
    kinds: Mapping[str, Resurgence],
    plain: PromptSet,
    concepts: ConceptSet,
    seed: int,
    erased: Erased,
    drawing: Drawing,
    images: Mapping[ImageRequest, ImageSet],
) -> dict[str, Drawn]:
    """Draws each curve, or finds what was drawn.

    Arguments:
        kinds: What is done, by the name of the curve.
        plain: The prompts, of which each curve takes the first.
        concepts: What was erased.
        seed: The seed of the attacks.
        erased: What was done to the original model in all.
        images: What was drawn for metrics: plain prompts among it are not drawn again.
    """
    return {
        name: _drawn(Course(name, kind, plain.limited(kind.prompts), concepts, seed), erased, drawing, images)
        for name, kind in kinds.items()
    }


def _drawn(
    course: Course, erased: Erased, drawing: Drawing, images: Mapping[ImageRequest, ImageSet]
) -> Drawn:
    kind = course.resurgence
    later = kind.places(drawing.sampler)
    sets: dict[str, list[ImageSet]] = {}
    folders = {}
    for model in ("erased", "original"):
        request = ImageRequest(ROLE, model)
        sets[model] = [_first(request, course.prompts, erased, drawing, images)]
        if model == "erased" or kind.both:
            folders[model] = _visited(model, course, erased, drawing)
            shown = [folders[model] / str(number) for number in range(len(later))]
            sets[model] += [ImageSet(request, course.prompts, folder) for folder in shown]
    places = [kind.origin(drawing.sampler), *later]
    return Drawn(kind, places, sets["erased"], sets["original"], folders)


def _first(
    request: ImageRequest,
    prompts: PromptSet,
    erased: Erased,
    drawing: Drawing,
    images: Mapping[ImageRequest, ImageSet],
) -> ImageSet:
    """Images of the model as it is: out of those that were drawn for metrics where these have them."""
    there = images.get(request)
    if there is not None and there.prompts.limited(len(prompts)) == prompts:
        return ImageSet(request, prompts, there.folder)
    return image_set(request, prompts, erased, drawing)


def _visited(model: str, course: Course, erased: Erased, drawing: Drawing) -> Path:
    """The folder with the images of one curve and one model, in a folder for each place."""
    kind, prompts, store = course.resurgence, course.prompts, drawing.store
    erasure, source = applied(model, erased)
    inputs = {
        "prompts": [prompts.prompts, prompts.seeds],
        "resurgence": kind,
        "sampler": drawing.sampler,
        "seed": course.seed,
        "source": source if kind.both else erased.inputs,
        **made_by(_visited, kind, drawing.sampler),
    }

    def make(folder: Path) -> None:
        loaded, scratch = drawing.model(), store.scratch("resurgence", inputs)
        subject = Subject(loaded, erasure, course.concepts, prompts, drawing.sampler)
        show = _show(subject, kind.places(drawing.sampler), f"{model}:{course.name}", scratch)
        kind.visit(subject, _context(loaded, course.seed, scratch), show)
        for place in range(len(kind.places(drawing.sampler))):
            _take(scratch / str(place), folder / str(place), len(prompts))

    return store.once("resurgence", inputs, make)


def _context(model: DiffusionModel, seed: int, scratch: Path) -> Context:
    return Context(
        seed=derive_seed(seed, "resurgence"),
        scratch=scratch,
        log=lambda _values, _step: None,
        progress=sys.stderr.isatty(),
        meter=Meter(model),
    )


def _show(subject: Subject, places: list[Place], name: str, scratch: Path) -> Show:
    """What draws the images of one place into its folder in ``scratch``."""

    def show(place: int, sampler: Sampler | None = None, start: Start | None = None) -> None:
        folder = scratch / str(place)
        folder.mkdir(exist_ok=True)
        said, guard = f"{name}:{places[place].label}", subject.erasure.guard
        sampler = sampler or subject.sampler
        draw_missing(subject.model, subject.prompts, sampler, guard, folder, said, start=start)

    return show


def _take(scratch: Path, folder: Path, count: int) -> None:
    """Takes the images of one place into the artifact."""
    folder.mkdir()
    for name in map(image_name, range(count)):
        if not (scratch / name).exists():
            raise ArtifactError(f"{scratch / name}: is missing. Delete {scratch.parent} and run again.")
        # Not moved, for a training that goes on from its checkpoint does not come by here again.
        share(scratch / name, folder / name)
