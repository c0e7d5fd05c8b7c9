"""What stands in ``results.json`` and, one line for each image, in ``items.jsonl``.

Both files are contracts: their keys, units and meaning are those of the classes below (``docs/results.md``
says the same in prose), and :data:`SCHEMA` changes whenever one of them does.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from unlearn.store.environment import Environment
from unlearn.store.tables import TableEntry

SCHEMA = 2
"""Version of the layout of ``results.json`` and ``items.jsonl``."""


VERDICTS = {
    "plain": "erased",
    "synonym": "erased_synonym",
    "implicit": "erased_implicit",
    "neighbour": "retained",
    "unrelated": "unrelated",
}
"""The score that judges the images of a role one by one; those of ``attack:<name>`` have ``asr_<name>``."""


class Measured(TypedDict):
    """A number and how well it is known.

    Attributes:
        value: The number, in the unit of its score.
        interval: Both ends of its 95 % interval; None where none can be given.
    """

    value: float
    interval: list[float] | None


class McNemar(TypedDict):
    """On which images two models differ, and how likely that is by chance.

    Attributes:
        erased: Images on which only the erased model shows what was asked.
        original: Images on which only the original model does.
        p: The exact test's probability, two-sided.
    """

    erased: int
    original: int
    p: float


class Equivalence(TypedDict):
    """Whether two models may be called alike, by two one-sided tests.

    Attributes:
        margin: How far apart they may be, in the unit of the score.
        p: How likely a difference of at least the margin is to look so small.
        holds: Whether ``p`` is below 0.05.
    """

    margin: float
    p: float
    holds: bool


class ScoreEntry(TypedDict):
    """One score of a run.

    Attributes:
        value: The erased model's number, in ``unit``; None where it is not defined, and a warning says why.
        unit: ``"%"`` (0 to 100) for rates and accuracies, else the name of the scale; empty if it has none.
        n: How many images (or prompts, or pairs of images) the number was taken over.
        prompts: How many different prompts these are of: the unit that is drawn at random.
        unsure: Of a rate: how many images the judge cannot tell anything about. ``value`` takes them for
            images that do not show what was asked.
        expected: How many it should have been taken over.
        failed: How many could not be scored. They are in no rate: they count neither as safe nor as unsafe.
        interval: Both ends of the 95 % interval of ``value``; None where none can be given.
        bounds: Of a rate: ``value``, and what it would be if every unsure image showed what was asked.
        corrected: Of a rate whose judge has a card: what it is if the judge errs as often as on its labelled
            images (Rogan and Gladen).
        better: Which way is better for an erasure, ``"lower"`` or ``"higher"``.
        version: Version of the metric's definition; numbers of two versions must not be compared.
        original: The unedited model's number on the same prompts and seeds; None where it has no meaning.
        difference: Erased minus original, paired by prompt and seed; None where it has no meaning.
        mcnemar: Of a rate: images on which only one of the two models shows what was asked.
        equivalence: Whether ``difference`` is within the metric's margin; None if it has none.
        details: Tables and curves behind the number, by name. Absent where it has none.
    """

    value: float | None
    unit: str
    n: int
    prompts: int
    unsure: int
    expected: int
    failed: int
    interval: list[float] | None
    bounds: list[float] | None
    corrected: Measured | None
    better: Literal["lower", "higher"]
    version: int
    original: Measured | None
    difference: Measured | None
    mcnemar: McNemar | None
    equivalence: Equivalence | None
    details: NotRequired[dict[str, TableEntry]]


class Seeds(TypedDict):
    """The three seeds of a run; each is the run's ``seed`` unless it was set apart.

    Attributes:
        erase: Of the erasure.
        generate: Of the images.
        attack: Of the attacks.
    """

    erase: int
    generate: int
    attack: int


class Cost(TypedDict):
    """What a run took. Work that was found finished counts with what it took when it was done.

    Attributes:
        erase_seconds: Wall-clock time of the erasure.
        attack_seconds: Wall-clock time of all attacks together.
        generate_seconds: Wall-clock time of drawing the images, the original model's included.
        score_seconds: Wall-clock time of all metrics together.
        peak_memory_gib: Highest memory of the device (of the process, on a CPU), in GiB; None if not known.
        parameters_changed: How many of the model's numbers the erasure has changed.
        unet_forwards: Denoiser evaluations of the erasure, counted in samples.
    """

    erase_seconds: float
    attack_seconds: float
    generate_seconds: float
    score_seconds: float
    peak_memory_gib: float | None
    parameters_changed: int
    unet_forwards: int


class Artifact(TypedDict):
    """Something that the run made or used.

    Attributes:
        fingerprint: Changes with anything that can change its content.
        path: Its folder, relative to the run folder; None for what has no folder of its own.
    """

    fingerprint: str
    path: str | None


class Making(Environment):
    """Where and with what some of a run's artifacts were made, by this run or an earlier one.

    Attributes:
        artifacts: Their names in :attr:`Results.artifacts`.
    """

    artifacts: list[str]


class StepEntry(TypedDict):
    """The model after one step of a sequence, that is, with this and all earlier concepts erased.

    Attributes:
        concept: What this step erased.
        scores: ``erased``, over the plain prompts of all concepts so far; ``retained`` and ``unrelated``,
            over the same prompts after every step.
        concepts: ``erased`` by concept, over the plain prompts of each; also of those that are still to be
            erased, whose images should show them.
        drift: Distance of the changed weights from the original's, relative to the length of these.
        erase_seconds: Wall-clock time of this step's erasure.
        unet_forwards: Denoiser evaluations of this step's erasure, counted in samples.
    """

    concept: str
    scores: dict[str, ScoreEntry]
    concepts: dict[str, ScoreEntry]
    drift: float
    erase_seconds: float
    unet_forwards: int


class AttackEntry(TypedDict):
    """What an attack tried and spent.

    Attributes:
        name: Its key in ``eval.attacks``.
        control: Whether it is no attack but what attacks are compared with.
        prompts: How many plain prompts it was tried on.
        found: For how many of them its own images showed the concept.
        failed: For how many of them the detector failed on the attack's own images without any showing the
            concept. Nobody knows what the attack would have found: they are failed in its rates as well.
            Not in older files.
        queries: Candidates that it tried for each, on average.
        unet_forwards: Denoiser evaluations that it spent on each, counted in samples, on average.
        seconds: Wall-clock time of all of it.
        curve: For how many prompts, in percent, it succeeded on its own images within so many candidates,
            with the 95 % band. Absent where it never did, or does not try one candidate after another.
    """

    name: str
    control: bool
    prompts: int
    found: int
    failed: NotRequired[int]
    queries: float
    unet_forwards: float
    seconds: float
    curve: NotRequired[TableEntry]


class PlaceEntry(TypedDict):
    """One place of a curve.

    Attributes:
        at: Where it is on the axis; its number, from 0, where the axis has no unit.
        label: What it is called.
        value: Share of images that show the concept, in percent; None if none could be judged.
        interval: Both ends of the 95 % interval of ``value``; None where none can be given.
        n: How many images the share was taken over.
        original: The original model's share at the same place; None where it is not put there.
    """

    at: float
    label: str
    value: float | None
    interval: list[float] | None
    n: int
    original: Measured | None


class CurveEntry(TypedDict):
    """How a concept comes back, over the first plain prompts.

    Attributes:
        name: Its key in ``eval.resurgence``.
        axis: What the places are places of: ``steps`` of a training, ``strength``, and so on.
        points: The places in their order; the first is the erased model as it is.
        half: ``at`` of the first place whose share is at least half the original's at the first place; None
            if there is none, or if the original never shows the concept.
        seconds: Wall-clock time of training and drawing.
    """

    name: str
    axis: str
    points: list[PlaceEntry]
    half: float | None
    seconds: float


class AgreementEntry(TypedDict):
    """How two judges of one concept agree, on both models' images of prompts that ask for it.

    Attributes:
        concept: Its name.
        first: Key in ``eval.detectors`` of the judge that the rates are by.
        second: Key of the other.
        both: Images in which both see it.
        neither: Images in which neither does.
        only_first: Images in which only the first does.
        only_second: Images in which only the second does.
        kappa: Their agreement beyond chance (Cohen), at most 1; None where it is not defined.
        interval: Its 95 % interval; None where none can be given.
    """

    concept: str
    first: str
    second: str
    both: int
    neither: int
    only_first: int
    only_second: int
    kappa: float | None
    interval: list[float] | None


class Results(TypedDict):
    """All of ``results.json``.

    Attributes:
        schema: :data:`SCHEMA`.
        name: The run's name, which is its folder's.
        fingerprint: Of the configuration, without what cannot change a number.
        method: What was chosen as ``method=``.
        model: What was chosen as ``model=``.
        concept: What was chosen as ``concept=``.
        seed: The run's seed.
        seeds: The three seeds in use.
        scores: By their key in ``eval.metrics``.
        cost: What the run took.
        warnings: Whole sentences about anything that makes a number doubtful; shown on top of the report.
        artifacts: By name: ``erasure``, ``scores``, ``attack:<attack>``, ``guesses:<attack>``,
            ``images:<model>:<prompts>``, ``prompts:<role>``, ``detector:<key>``,
            ``resurgence:<model>:<curve>``; and of every step of a sequence but the last, counted from 1,
            ``step<n>:erasure``, ``step<n>:scores`` and ``step<n>:images:<model>:<prompts>``.
        environment: Versions, commit and device of the process that put these results together.
        made_with: The same of those that made the artifacts, one entry for each that differs: an artifact
            that was found finished was made by an earlier process. Absent from results of older versions.
        agreement: Only where there is a second judge (``eval.second_judge``) of a concept.
        attacks: Only where there are any: what each tried and spent. How often it succeeds is in ``scores``.
        steps: Only of a sequence: what the model was like after each step. The last is what ``scores`` is of.
        resurgence: Only where ``eval.resurgence`` names curves: how fast the concept comes back.
    """

    schema: int
    name: str
    fingerprint: str
    method: str
    model: str
    concept: str
    seed: int
    seeds: Seeds
    scores: dict[str, ScoreEntry]
    cost: Cost
    warnings: list[str]
    artifacts: dict[str, Artifact]
    environment: Environment
    made_with: NotRequired[list[Making]]
    agreement: NotRequired[list[AgreementEntry]]
    attacks: NotRequired[list[AttackEntry]]
    steps: NotRequired[list[StepEntry]]
    resurgence: NotRequired[list[CurveEntry]]


class Item(TypedDict):
    """One image of a run: a line of ``items.jsonl``.

    Attributes:
        prompts: The role that the prompt plays, or ``attack:<name>``.
        model: ``"original"`` or ``"erased"``.
        index: Position in the prompt set; the images of one index by both models belong together.
        prompt: The text.
        seed: The seed of its noise.
        image: Path of the file, relative to the run folder.
        scores: What the metrics said of this image, by score key; 1 and 0 for a detector's yes and no,
            0.5 where it cannot tell.
            :data:`VERDICTS` names the score that judges a role. What could not be scored is left out.
        plain: For an attack, the prompt that it began with.
    """

    prompts: str
    model: Literal["original", "erased"]
    index: int
    prompt: str
    seed: int
    image: str
    scores: dict[str, float]
    plain: NotRequired[str]
