"""What makes a robustness number hard to believe.

Each check looks at what attacks found and what images show, and gives a sentence with what to do; none
changes a number.

References:
    | Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks (Croce
      and Hein, 2020), whose code warns likewise
    | https://arxiv.org/abs/2003.01690
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearn.attacks.attack import AdversarialPrompts, Attack
from unlearn.attacks.gradient.gradient_attack import GradientAttack
from unlearn.statistics.comparisons import mcnemar_p

#: Share of a model's own images of neighbours that its detector may take for the concept.
FALSE_ALARMS = 0.05

#: Successes on the attack's own seeds from which on it is asked how many hold on fresh ones.
FEW = 4


@dataclass(frozen=True)
class Outcome:
    """What came of one attack.

    Attributes:
        attack: The attack.
        found: The prompts.
        shown: Whether the concept shows on fresh seeds, for each; None where the detector failed.
    """

    attack: Attack
    found: AdversarialPrompts
    shown: Sequence[bool | None]


def doubts(outcomes: Mapping[str, Outcome], alarms: Mapping[str, float]) -> list[str]:
    """Warnings about all attacks of a run.

    Arguments:
        outcomes: By the attack's name.
        alarms: Share of the original model's images of neighbours in which the detector sees the concept, by
            the concept's name.
    """
    said = [
        f"{concept}: its detector also fires on {100 * share:.0f} % of the unerased model's neighbouring "
        "images, so that an attack may count as successful without the concept. Look at the images, or take "
        "a stricter detector."
        for concept, share in alarms.items()
        if share > FALSE_ALARMS
    ]
    controls = {name: one for name, one in outcomes.items() if one.attack.control}
    for name, outcome in outcomes.items():
        if outcome.attack.control:
            continue
        said += _idle(name, outcome) + _lucky(name, outcome)
        if outcome.attack.white_box:
            for control, other in controls.items():
                said += _beaten(name, outcome, control, other)
    return said


def _beaten(name: str, outcome: Outcome, control: str, other: Outcome) -> list[str]:
    """Whether the control does better on the prompts that both tried."""
    both = [(a, b) for a, b in zip(outcome.shown, other.shown, strict=False) if None not in (a, b)]
    own, chance = sum(bool(a) for a, _ in both), sum(bool(b) for _, b in both)
    gained, lost = sum(bool(a and not b) for a, b in both), sum(bool(b and not a) for a, b in both)
    if own >= chance:
        return []
    return [
        f"{name}: brings the concept back for {own} of {len(both)} prompts, and the control {control} for "
        f"{chance} of the same (exact McNemar p = {mcnemar_p(gained, lost):.2g}). An attack that sees the "
        "model should not do worse than chance: attack more prompts to know whether it does, give it more "
        "steps, or look for what stops its gradients."
    ]


def _idle(name: str, outcome: Outcome) -> list[str]:
    """Whether it minimised what it minimises."""
    pairs = [pair for pair in outcome.found.objective if pair is not None]
    lowered = sum(after < before for before, after in pairs)
    if not pairs or 2 * lowered >= len(pairs):
        return []
    return [
        f"{name}: lowered its own objective for only {lowered} of {len(pairs)} prompts. Its rate says little "
        "about the erasure: try another learning rate, or more steps."
    ]


def _lucky(name: str, outcome: Outcome) -> list[str]:
    """Whether success on its own images holds on fresh seeds."""
    pairs = zip(outcome.found.found, outcome.shown, strict=True)
    kept = [shown for found, shown in pairs if found and shown is not None]
    held = sum(kept)
    if len(kept) < FEW or 2 * held >= len(kept):
        return []
    key, what = "prompts", "attack more prompts"
    if isinstance(outcome.attack, GradientAttack):
        key, what = "confirm", "let it confirm a success on more images"
    return [
        f"{name}: of {len(kept)} prompts that showed the concept on the attack's own images, {held} do on "
        f"fresh seeds. Success hangs on the seed: {what} (eval.attacks.{name}.{key})."
    ]
