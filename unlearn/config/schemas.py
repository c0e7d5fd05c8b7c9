"""The fields of a whole run; those of its components are their own dataclasses'."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unlearn.concepts.choice import ConceptChoice
from unlearn.concepts.concept import ROLES, SPLITS, ConceptSet, PromptSet
from unlearn.concepts.roles import prompt_sets
from unlearn.settings import Settings, setting


@dataclass(kw_only=True)
class Seeds(Settings):
    """Where the randomness of each stage begins.

    Attributes:
        erase: Of the erasure.
        generate: Of the images; 0 keeps the seeds of the prompt files.
        attack: Of the attacks.
    """

    erase: int = setting(least=0, below=2**63)
    generate: int = setting(least=0, below=2**63)
    attack: int = setting(least=0, below=2**63)


@dataclass(kw_only=True)
class Paths:
    """Folders of the user's own files.

    Attributes:
        prompts: Searched for prompt files before the packaged ones.
    """

    prompts: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Evaluation(Settings):
    """Which attacks to run and which metrics to take.

    Attributes:
        prompts: How many prompts of each role to use at most; a role that is not named is used whole. In a
            sequence, ``plain``, ``synonym`` and ``implicit`` have so many of each concept.
        split: Which half of the prompts: ``test`` is for numbers that are reported, ``dev`` for choosing
            settings by. No prompt is in both.
        attacks: By name; each gives a prompt set ``attack:<name>``.
        metrics: By the name of the score.
        detectors: The networks that judge images, by the name that concepts, models and metrics call them.
        second_judge: The detector that the judge of each concept is compared with; None for none.
        failures: How many images may fail to be scored before the run fails.
        resurgence: Curves of how fast the concept comes back, by name.
    """

    prompts: dict[str, int] = setting(default_factory=dict, keys=ROLES, kind="role", least=1)
    split: str = setting(default="test", choices=SPLITS, kind="split")
    attacks: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    detectors: dict[str, Any] = field(default_factory=dict)
    second_judge: str | None = None
    failures: int = setting(default=0, least=0, unit="images")
    resurgence: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class RunConfig(Settings):
    """All that a run depends on.

    Attributes:
        model: The model to erase from.
        method: How to erase.
        concept: What to erase.
        eval: How to measure it.
        tracker: Where numbers and images go while the run goes on.
        seed: What the three seeds are unless they are set apart.
        seeds: The seed of each stage.
        paths: Folders of the user's own files.
        plugins: Python files of one's own with methods, attacks, metrics and the like; ``conf/`` beside them
            holds their YAML. They are loaded before the rest is read, so that only the command line and an
            experiment can name them.
        device: A torch device.
        outputs: Where artifacts and runs are kept.
        force: Whether to make everything again that is already there.
        objective: Name of the score that the run returns to an optimising sweeper, which is tuning: it takes
            ``eval.split=dev``.
    """

    model: Any
    method: Any
    concept: ConceptChoice
    eval: Evaluation
    tracker: Any
    seed: int = setting(least=0, below=2**63)
    seeds: Seeds
    paths: Paths
    plugins: list[str]
    device: str
    outputs: str
    force: bool
    objective: str | None

    @property
    def concepts(self) -> ConceptSet:
        """What to erase in all, in the words of the model's world."""
        return self.concept.world(self.model.world)

    @property
    def steps(self) -> list[ConceptSet]:
        """What to erase one after another: all at once, or the concepts of a sequence."""
        return self.concept.steps(self.model.world)

    def prompt_sets(self) -> dict[str, PromptSet]:
        """The prompts of each role, as many as the evaluation asks for.

        Raises:
            ConfigError: If a prompt file is missing or wrong.
        """
        return prompt_sets(
            self.concepts,
            self.eval.prompts,
            self.paths.prompts,
            self.seeds.generate,
            each=self.concept.sequence is not None,
            split=self.eval.split,
        )
