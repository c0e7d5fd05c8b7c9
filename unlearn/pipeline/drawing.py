"""Drawing: the images that metrics ask for, each once.

Every metric says which images it needs; each set is drawn once, kept under the fingerprint of all that it
depends on, and read from disk by all metrics. The original model's images do not depend on the method, so all
methods share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet, image_name, write_image
from unlearn.errors import UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.model import DiffusionModel
from unlearn.models.sampling import Sampler, Start, draw
from unlearn.models.words import Words, taught
from unlearn.pipeline.erasing import Erased
from unlearn.store.artifacts import Store
from unlearn.store.provenance import made_by
from unlearn.system import stopping
from unlearn.system.writing import share


@dataclass(frozen=True)
class Drawing:
    """What images are drawn with.

    Attributes:
        model: Gives the original model; called only if there is something to draw.
        sampler: How they are drawn.
        store: Where they are kept.
    """

    model: Callable[[], DiffusionModel]
    sampler: Sampler
    store: Store


def generate(
    needed: Iterable[ImageRequest],
    prompts: Mapping[str, PromptSet],
    erased: Erased,
    drawing: Drawing,
    words: Mapping[str, Words] = MappingProxyType({}),
) -> dict[ImageRequest, ImageSet]:
    """Draws the images that the metrics need, or finds them.

    Arguments:
        prompts: By the name that requests call them.
        erased: What was done to the original model.
        words: Learned words that prompts say, by the name of the prompt set.
    """
    return {
        request: image_set(request, prompts[request.prompts], erased, drawing, words.get(request.prompts))
        for request in needed
    }


def image_set(
    request: ImageRequest, prompts: PromptSet, erased: Erased, drawing: Drawing, words: Words | None = None
) -> ImageSet:
    """Draws the images of one request, or finds them.

    A run that is killed leaves finished batches behind, and the next one goes on after them.

    Arguments:
        words: Learned words that the prompts say, if any.
    """
    sampler, store = drawing.sampler, drawing.store
    if not len(prompts):
        return ImageSet(request, prompts, store.root)
    erasure, source = applied(request.model, erased)
    inputs = {
        "prompts": prompts.prompts,
        "sampler": sampler,
        "seeds": prompts.seeds,
        "source": source,
        **made_by(image_set, sampler),
    }
    if words is not None:
        inputs["words"] = words.fingerprint()

    def make(folder: Path) -> None:
        unfinished = store.scratch("images", inputs)
        with drawing.model().erased(erasure) as model, taught(model, words):
            draw_missing(model, prompts, sampler, erasure.guard, unfinished, str(request))
        for name in map(image_name, range(len(prompts))):
            # Not moved: what is drawn must outlive a full disk, or a kill, before the artifact is whole.
            share(unfinished / name, folder / name)

    return ImageSet(request, prompts, store.once("images", inputs, make))


def applied(model: str, erased: Erased) -> tuple[Erasure, Mapping[str, Any]]:
    """The erasure that ``model`` is drawn with, and all that the two depend on.

    One that changes nothing gives the original model, whose images are not drawn a second time.

    Arguments:
        model: ``original`` or ``erased``.
    """
    changes = erased.erasure.weights or erased.erasure.guard is not None
    if model == "original" or not changes:
        return Erasure(), erased.inputs["source"]
    return erased.erasure, erased.inputs


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

    done = _finished(folder, len(prompts), sampler)
    rest = slice(done, None)
    rows = (prompts.prompts[rest], prompts.seeds[rest])
    begun = None if start is None else start[rest]
    with tqdm(total=len(prompts), initial=done, desc=name, unit="image", disable=None) as bar:
        for images in draw(model, *rows, sampler, guard=guard, start=begun):
            with stopping.finishing():  # half a batch would be drawn again
                for index, image in enumerate(images, start=done):
                    _check_finite(image, prompts, index, name)
                    write_image(folder / image_name(index), image)
            done += len(images)
            bar.update(len(images))


def _finished(folder: Path, count: int, sampler: Sampler) -> int:
    """How many of the first images are there, in whole batches unless all are."""
    done = 0
    while done < count and (folder / image_name(done)).exists():
        done += 1
    if done < count:
        done -= done % sampler.batch_size
    return done


def _check_finite(image: Tensor, prompts: PromptSet, index: int, name: str) -> None:
    if not bool(image.isfinite().all()):
        raise UnlearnError(
            f"{name}: the image of '{prompts.prompts[index]}' (seed {prompts.seeds[index]}) is not finite. "
            "Try model.dtype=float32; else the erasure has broken the model."
        )
