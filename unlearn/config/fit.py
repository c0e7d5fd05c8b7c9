"""Whether the parts of a run fit together, as far as it can be said before a weight is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from unlearn.attacks.attack import Attack
from unlearn.catalogue import METHODS
from unlearn.concepts.concept import ROLES, SPLITS, read_prompts
from unlearn.concepts.roles import ASKING
from unlearn.config.schemas import RunConfig
from unlearn.detectors.detector import Detector, ImageFeatures
from unlearn.errors import ConfigError, unknown
from unlearn.methods.method import Method
from unlearn.metrics.detection import DetectionRate
from unlearn.metrics.metric import Metric
from unlearn.resurgence.resurgence import Resurgence
from unlearn.tracking.tracker import Tracker


def mismatches(run: RunConfig, here: bool = True) -> list[str]:
    """Names that refer to nothing, and parts that are not made for each other, each with its full key.

    Arguments:
        run: The run.
        here: Whether to look, too, for the files, packages and devices of this machine.
    """
    if found := list(_kinds(run)):  # what follows asks each component for what its kind can tell
        return found
    checks: list[Callable[[RunConfig], Iterator[str]]] = [
        _references, _method, _concepts, _prompts, _metrics, _attacks, _resurgence,
    ]  # fmt: skip
    if here:
        checks += [_files, _device]
    # Two checks may meet the same problem, as of a concept that is not worded for the model.
    return list(dict.fromkeys(problem for check in checks for problem in check(run)))


def _kinds(run: RunConfig) -> Iterator[str]:
    """Components that a configuration sets without choosing them from their group."""
    tables: list[tuple[str, Mapping[str, Any], type | tuple[type, ...], str]] = [
        ("", {"method": run.method}, Method, "method"),
        ("", {"tracker": run.tracker}, Tracker, "tracker"),
        ("eval.attacks.", run.eval.attacks, Attack, "attack"),
        ("eval.metrics.", run.eval.metrics, Metric, "metric"),
        ("eval.resurgence.", run.eval.resurgence, Resurgence, "resurgence"),
        ("eval.detectors.", run.eval.detectors, (Detector, ImageFeatures), "detector"),
    ]
    for path, components, kind, group in tables:
        for name, component in components.items():
            if not isinstance(component, kind):
                how = f"+{group}@{path}{name}=<name>" if path else f"{group}=<name>"
                yield f"{path}{name}: is no {group}, got {component!r}. Choose one with {how}."
    if not hasattr(run.model, "load"):
        yield f"model: is no model, got {run.model!r}. Choose one with model=<name>."


def _references(run: RunConfig) -> Iterator[str]:
    for key in ("clip", "inception"):
        name = getattr(run.model, key)
        if name not in run.eval.detectors:
            yield f"model.{key}: {unknown('detector', name, run.eval.detectors)}"
    if (second := run.eval.second_judge) is None:
        return
    if second not in run.eval.detectors:
        yield f"eval.second_judge: {unknown('detector', second, run.eval.detectors)}"
    elif not isinstance(run.eval.detectors[second], Detector):
        yield f"eval.second_judge: '{second}' gives features and decides nothing."


def _method(run: RunConfig) -> Iterator[str]:
    lacking = run.method.requires - run.model.features
    if lacking:
        fitting = sorted(name for name, cls in METHODS.items() if cls.requires <= run.model.features)
        yield (
            f"method: {type(run.method).__name__} requires {', '.join(sorted(lacking))}, which "
            f"{type(run.model).__name__} does not have. Methods for it: {', '.join(fitting)}."
        )
        return
    if run.concept.sequence is not None and not run.method.continues:
        # Where it depends on settings, it is a property, of which the class says nothing.
        fitting = sorted(name for name, cls in METHODS.items() if cls.continues is True)
        yield (
            f"concept.sequence: {type(run.method).__name__} acts while sampling, and a model takes one "
            f"such change, not one after another. Methods for a sequence: {', '.join(fitting)}."
        )
        return
    try:
        for concepts in run.steps:
            run.method.check(run.model, concepts)
    except ConfigError as error:
        yield str(error)


def _concepts(run: RunConfig) -> Iterator[str]:
    try:
        concepts = run.concepts
    except ConfigError as error:
        yield str(error)
        return
    for name, concept in concepts.erase.items():
        key = f"concept.worlds.{run.model.world}.erase.{name}"
        detector = run.eval.detectors.get(concept.detector)
        if detector is None:
            yield f"{key}.detector: {unknown('detector', concept.detector, run.eval.detectors)}"
        elif not isinstance(detector, Detector):
            yield f"{key}.detector: '{concept.detector}' gives features and decides nothing."
        else:
            for label in concept.labels:
                if not detector.knows(label):
                    yield f"{key}.labels: {unknown(f'label of {concept.detector}', label, detector.labels)}"


def _prompts(run: RunConfig) -> Iterator[str]:
    try:
        concepts = run.concepts
        for role in ROLES:
            prompts = concepts.prompt_set(role, run.paths.prompts, limit=1, split=run.eval.split)
            if role in ("plain", "unrelated") and not len(prompts):
                yield f"concept: has no prompt of role '{role}' for the world '{run.model.world}'."
        for role in run.eval.prompts:
            yield from _enough(run, role)
    except ConfigError as error:
        yield str(error)


def _enough(run: RunConfig, role: str) -> Iterator[str]:
    """Where a prompt file has as many of a role as are asked for, but not in the half that is used."""
    files = [concept.prompts for concept in run.concepts.erase.values()]
    if None in files:  # templates say each prompt again and again: as many are used as there are
        return
    asked, split = run.eval.prompts[role], run.eval.split
    each = run.concept.sequence is not None and role in ASKING
    used, other = _halves(split)
    own = [_rows(run, str(name), role, used) for name in files]
    more = sum(_rows(run, str(name), role, other) for name in files)
    found = min(own) if each else sum(own)
    if found < asked and more:
        yield (
            f"eval.prompts.{role}: asks for {asked}{' of each concept' if each else ''}, and the half "
            f"'{split}' has {found}; the {more} of '{other}' are not mixed with them. Ask for fewer."
        )


def _halves(split: str) -> tuple[str, str]:
    """A half, and the other one."""
    return split, next(half for half in SPLITS if half != split)


def _rows(run: RunConfig, name: str, role: str, split: str) -> int:
    """How many rows of a role a prompt file has in a half."""
    try:
        return len(read_prompts(name, run.paths.prompts, split)[role])
    except ConfigError:  # it is not split: said where its half is asked for
        return 0


def _attacks(run: RunConfig) -> Iterator[str]:
    try:
        limit, each = run.eval.prompts.get("plain"), run.concept.sequence is not None
        plain = run.concepts.prompt_set("plain", run.paths.prompts, limit, each=each, split=run.eval.split)
    except ConfigError:  # said by other checks
        return
    for name, attack in run.eval.attacks.items():
        if attack.budget is None:
            continue
        try:
            attack.bounded(run.model.sampler, attack.chosen(plain))
        except ConfigError as error:
            yield f"eval.attacks.{name}.{error}"
    if not run.method.continues:
        for name, attack in run.eval.attacks.items():
            if attack.white_box and not (attack.through_guards and run.method.differentiable):
                yield (
                    f"eval.attacks.{name}: {type(attack).__name__} needs gradients, and "
                    f"{type(run.method).__name__} acts while sampling, where it gets none. Take it out with "
                    f"~eval.attacks.{name}."
                )


def _resurgence(run: RunConfig) -> Iterator[str]:
    try:
        concepts = run.concepts
        most = max((kind.prompts for kind in run.eval.resurgence.values()), default=1)
        plain = concepts.prompt_set("plain", run.paths.prompts, limit=most, split=run.eval.split)
    except ConfigError:  # said by other checks
        return
    for name, kind in run.eval.resurgence.items():
        for problem in kind.check(run.model.sampler, concepts, plain.limited(kind.prompts)):
            yield f"eval.resurgence.{name}.{problem}."


def _metrics(run: RunConfig) -> Iterator[str]:
    if not run.eval.metrics:
        yield "eval.metrics: needs at least one. Choose an evaluation with eval=<name>."
    for name, metric in run.eval.metrics.items():
        yield from (f"eval.metrics.{name}.{problem}" for problem in metric.check(run.eval.detectors))
    if run.concept.sequence is not None and not isinstance(run.eval.metrics.get("erased"), DetectionRate):
        yield "eval.metrics.erased: a sequence is measured by it. Add +metric@eval.metrics.erased=erased."
    scores = {
        name + suffix
        for name, metric in run.eval.metrics.items()
        for suffix in metric.by_attack(list(run.eval.attacks))
    }
    if run.objective is not None and run.objective not in scores:
        yield f"objective: {unknown('score', run.objective, scores)}"
    if run.objective is not None and run.eval.split == "test":
        yield (
            "objective: a sweeper that looks for the best setting tunes, and must not do so on the prompts "
            "that are reported. Set eval.split=dev, and report the best one without either."
        )


def _files(run: RunConfig) -> Iterator[str]:
    yield from (f"model.{problem}" for problem in run.model.check())
    try:
        judges = {concept.detector for concept in run.concepts.erase.values()}
    except ConfigError:  # said by another check
        judges = set()
    said = (value for metric in run.eval.metrics.values() for value in vars(metric).values())
    named = {value for value in said if isinstance(value, str)}
    used = {run.model.clip, run.model.inception, *judges, *named}
    for key in sorted(used & set(run.eval.detectors)):
        yield from (f"eval.detectors.{key}.{problem}" for problem in run.eval.detectors[key].check())
    try:
        concepts = run.concepts
    except ConfigError:
        return
    for name, attack in run.eval.attacks.items():
        yield from (f"eval.attacks.{name}.{problem}." for problem in attack.check(concepts))


def _device(run: RunConfig) -> Iterator[str]:
    import torch

    try:
        device = torch.device(run.device)
    except RuntimeError:
        yield f"device: must be cpu, cuda, cuda:<number> or mps, got {run.device}."
        return
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        yield f"device: there is no {run.device} on this machine, with {count} CUDA devices. Use device=cpu."
    if device.type == "mps" and not torch.backends.mps.is_available():
        yield "device: there is no mps on this machine. Use device=cpu."
