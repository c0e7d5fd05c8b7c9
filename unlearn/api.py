"""Erasing from Python: what the command line does, on the same objects.

.. code-block:: python

    import unlearn

    config = unlearn.configure("method=rece", "concept=church", "eval=quick")
    model = unlearn.load_model(config.model, config.device)
    erasure = unlearn.erase(model, config.method, config.concepts)
    scores = unlearn.evaluate(model, erasure, config)
    print(scores["erased"]["value"], scores["erased"]["original"]["value"])
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from unlearn.concepts.concept import ConceptSet
from unlearn.config.compose import composed
from unlearn.config.resolve import resolve
from unlearn.config.schemas import RunConfig
from unlearn.methods.method import Context, Meter, Method
from unlearn.models.erasure import Erasure, contents
from unlearn.models.families.sd import StableDiffusion
from unlearn.models.model import DiffusionModel
from unlearn.pipeline.attacking import attack, learned
from unlearn.pipeline.drawing import Drawing, generate
from unlearn.pipeline.erasing import Erased
from unlearn.pipeline.judging import Judging
from unlearn.pipeline.scoring import score
from unlearn.pipeline.sequence import measurements
from unlearn.store.artifacts import Store, check_unused, claim
from unlearn.store.layout import ScoreEntry
from unlearn.store.provenance import made_by


def configure(*overrides: str) -> RunConfig:
    """The objects that ``unlearn run`` would build from the same ``key=value`` words.

    Raises:
        ConfigError: If anything is wrong with them; all mistakes at once.
    """
    return resolve(composed(overrides), said=overrides)


def load_model(settings: StableDiffusion, device: str = "cpu") -> DiffusionModel:
    """The original model, ready to draw.

    Raises:
        ConfigError: If it cannot be found or is of a kind that is not supported.
    """
    return settings.load(device)


def erase(
    model: DiffusionModel,
    method: Method,
    concepts: ConceptSet,
    *,
    before: Erasure | None = None,
    seed: int = 0,
    scratch: Path | None = None,
    progress: bool = False,
) -> Erasure:
    """What makes the model unable to draw the concepts; the model itself stays as it is.

    ``with model.erased(erasure):`` applies it.

    Arguments:
        before: An erasure to go on from; what comes back then holds both.
        seed: Of all randomness of the method.
        scratch: A folder for checkpoints; with one, a training that was interrupted goes on where it was. It
            is for one model and one set of settings.
        progress: Whether a progress bar is shown.

    Raises:
        IncompatibleError: If the model lacks what the method requires.
        ConfigError: If concepts or hyperparameters contradict each other, or ``scratch`` holds unfinished
            work with others, or files of somebody else.
        UnlearnError: If the erasure fails or changes nothing.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if scratch is None else scratch
        if scratch is not None:
            check_unused(folder)
            tensors = {"alphas_cumprod": model.alphas_cumprod, **dict(model.named_parameters())}
            claim(
                folder,
                {
                    "after": None if before is None else before.fingerprint(),
                    "concepts": concepts,
                    "device": model.device.type,
                    "method": method,
                    "model": contents(tensors),
                    "seed": seed,
                    **made_by(method, concepts),
                },
            )
        context = Context(
            seed=seed, scratch=folder, log=lambda _values, _step: None, progress=progress, meter=Meter(model)
        )
        if before is None:
            return method.erase(model, concepts, context)
        return method.continued(model, concepts, context, before)


def evaluate(model: DiffusionModel, erasure: Erasure, config: RunConfig) -> dict[str, ScoreEntry]:
    """Attacks, draws and scores as ``config.eval`` says, beside the original model.

    Nothing is kept; `unlearn run` keeps what it makes and shares it between runs.

    Returns:
        The scores as in ``results.json``.
    """
    evaluation, concepts = config.eval, config.concepts
    judging = Judging(concepts, evaluation.detectors, evaluation.failures)
    (plan,) = measurements(evaluation.metrics, list(evaluation.attacks), concepts, None)
    prompts = config.prompt_sets()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        drawing = Drawing(lambda: model, config.model.sampler, store)
        inputs = {"source": {"model": "in memory"}, "erasure": "in memory"}
        erased = Erased(erasure, Path(folder), inputs, {})
        attacks = attack(evaluation.attacks, prompts["plain"], config.seeds.attack, erased, drawing, judging)
        prompts |= {one.found.prompts.name: one.found.prompts for one in attacks.values()}
        images = generate(plan.needed, prompts, erased, drawing, learned(attacks))
        return score(plan.metrics, images, attacks, judging, store).scores
