"""What a metric gives: one number, beside the original model's, and what makes it doubtful."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from unlearn.concepts.images import ImageRequest
from unlearn.statistics.interval import Interval


@dataclass(frozen=True)
class Measured:
    """A number and its 95 % interval, None where none can be given."""

    value: float
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """As in ``results.json``."""
        return {"value": self.value, "interval": None if self.interval is None else list(self.interval)}


@dataclass(frozen=True)
class McNemar:
    """On which images two models differ, and how likely that is by chance.

    Attributes:
        erased: Images on which only the erased model shows what was asked.
        original: Images on which only the original model does.
        p: The exact test's probability, two-sided.
    """

    erased: int
    original: int
    p: float


@dataclass(frozen=True)
class Equivalence:
    """Whether two models may be called alike.

    Attributes:
        margin: How far apart they may be, in the unit of the score.
        p: How likely a difference of at least the margin is to look so small (two one-sided tests).
        holds: Whether ``p`` is below 0.05.
    """

    margin: float
    p: float
    holds: bool


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of a results table.

    Attributes:
        value: The erased model's number, in ``unit``; None where it is not defined, and ``warnings`` says
            why.
        unit: ``%`` for rates, else the name of the scale.
        n: Images (or prompts, or pairs of images) that it was taken over.
        expected: How many it should have been taken over.
        failed: How many could not be scored.
        interval: 95 % interval of ``value``, where one can be given.
        better: Which way is better for an erasure.
        version: Version of the metric's definition.
        original: The original model's number on the same prompts and seeds.
        difference: Erased minus original, paired by prompt and seed.
        per_image: What the metric says of each image, NaN where it failed, for the report.
        warnings: Whole sentences about what makes the number doubtful, without its name.
        prompts: How many different prompts the ``n`` are of.
        unsure: Of a rate: images that the judge cannot tell anything about. ``value`` takes them for images
            that do not show what was asked.
        bounds: Of a rate: ``value``, and what it would be if every unsure image showed what was asked.
        corrected: Of a rate: what it is if the judge errs as often as on its labelled images.
        mcnemar: Of a rate: on how many images only one of the two models shows what was asked.
        equivalence: Whether the difference from the original is within a margin.
    """

    value: float | None
    unit: str
    n: int
    expected: int
    failed: int
    interval: Interval | None
    better: Literal["lower", "higher"]
    version: int
    original: Measured | None = None
    difference: Measured | None = None
    per_image: Mapping[ImageRequest, tuple[float, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    prompts: int = 0
    unsure: int = 0
    bounds: Interval | None = None
    corrected: Measured | None = None
    mcnemar: McNemar | None = None
    equivalence: Equivalence | None = None

    def to_json(self) -> dict[str, Any]:
        """The score's entry in ``results.json``."""
        return {
            "value": self.value,
            "unit": self.unit,
            "n": self.n,
            "prompts": self.prompts,
            "unsure": self.unsure,
            "expected": self.expected,
            "failed": self.failed,
            "interval": None if self.interval is None else list(self.interval),
            "bounds": None if self.bounds is None else list(self.bounds),
            "corrected": None if self.corrected is None else self.corrected.to_json(),
            "better": self.better,
            "version": self.version,
            "original": None if self.original is None else self.original.to_json(),
            "difference": None if self.difference is None else self.difference.to_json(),
            "mcnemar": None if self.mcnemar is None else asdict(self.mcnemar),
            "equivalence": None if self.equivalence is None else asdict(self.equivalence),
        }
