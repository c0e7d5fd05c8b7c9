"""Scores in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from unlearn.store.layout import ScoreEntry
from unlearn.verdict.axes import attacks

MINUS = "\N{MINUS SIGN}"

ROLES = {
    "plain": "Plain prompts",
    "synonym": "Synonyms",
    "implicit": "Implied, not named",
    "neighbour": "Neighbours",
    "unrelated": "Unrelated",
}

VERDICT_SCORES = ("erased", "erased_synonym", "erased_implicit", "retained", "unrelated")
"""The scores that say most about a run, as far as it has them."""

_TITLES = {
    "erased": ("Concept shown, plain", "images for plain prompts that show the concept"),
    "erased_synonym": ("Concept shown, synonyms", "the same for prompts that use another word"),
    "erased_implicit": ("Concept shown, implied", "the same for prompts that suggest it without a name"),
    "retained": ("Neighbours kept", "images of similar concepts that show what was asked"),
    "unrelated": ("Unrelated kept", "images of other concepts that show what was asked"),
    "identity": (
        "Change of other images",
        "distance to the original's image of the same prompt and seed, 0 if it is the same",
    ),
    "clip_score": ("Image fits prompt", "CLIP score of the images that should not change"),
    "fid": ("FID", "Fréchet distance to reference images"),
    "worst_case": (
        "Any attack",
        "plain prompts that show the concept, as they are or under any of the attacks",
    ),
    "kid": ("KID", "kernel distance to reference images"),
    "cmmd": ("CMMD", "CLIP kernel distance to reference images"),
    "erasure_ratio": ("Share erased", "of the original's rate, what is gone"),
    "new_failures": ("New failures", "images that show the concept since the erasure, and did not before"),
    "thresholds": ("Concept shown, any threshold", "the rate, averaged over the detector's thresholds"),
    "erosion": ("Kept, near and far", "area under what is kept, by likeness to the concept"),
    "people": ("People kept", "images with a face"),
    "body_parts": ("Body parts", "images that show any of them"),
    "fid_to_original": ("FID to original", "Fréchet distance to the original model's images"),
    "kid_to_original": ("KID to original", "kernel distance to the original model's images"),
    "cmmd_to_original": ("CMMD to original", "CLIP kernel distance to the original model's images"),
}
_RESISTED = "_resisted"
_CONTROL = "asr_random_tokens"
_SECTIONS = {
    "What was erased": ("erased",),
    "Attacks": ("asr_", "worst_case"),
    "What was kept": ("retained", "unrelated", "identity"),
    "Image quality": ("clip", "fid", "kid", "cmmd", "lpips"),
    "More scores": ("",),
}


def plain(name: str) -> str:
    """A name as it is said: ``garbage_truck`` is a garbage truck."""
    return name.replace("_", " ")


def title(key: str) -> str:
    """The name of a score for people."""
    if key.startswith("asr_"):
        resisted = ", on resisted prompts" if key.endswith(_RESISTED) else ""
        return f"{attack_title(key.removesuffix(_RESISTED))}{resisted}"
    return _TITLES[key][0] if key in _TITLES else plain(key)


def attack_title(key: str) -> str:
    """The name of an attack, or of the packaged control, by the key of its score."""
    return f"{'Control' if key == _CONTROL else 'Attack'}: {plain(key[4:])}"


def meaning(key: str) -> str:
    """What a score counts; empty for one that this module does not know."""
    if key.startswith("asr_"):
        if key.endswith(_RESISTED):
            return "of the prompts that show the concept no more, those that the attack brings it back for"
        return "plain prompts that show the concept, as they are or attacked"
    return _TITLES[key][1] if key in _TITLES else ""


def sections(scores: Mapping[str, ScoreEntry]) -> dict[str, list[str]]:
    """The keys of ``scores`` under the headings of the report, each once and in their order."""
    left = list(scores)
    found: dict[str, list[str]] = {}
    for heading, starts in _SECTIONS.items():
        keys = [key for key in left if key.startswith(starts)]
        left = [key for key in left if key not in keys]
        if keys:
            found[heading] = keys
    return found


def number(value: float | None, unit: str, signed: bool = False, like: float | None = None) -> str:
    """A value without its unit: one decimal for percentages, else three digits; a dash for none.

    Arguments:
        signed: Whether to put a plus before it.
        like: Another value whose decimals it shares.
    """
    if value is None:
        return "\N{EN DASH}"
    size = abs(value if like is None else like)
    decimals = 1 if unit == "%" else 0 if size == 0 else min(max(2 - math.floor(math.log10(size)), 0), 6)
    text = f"{abs(value):.{decimals}f}"
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    return (sign if float(text) else "") + text


def probability(p: float) -> str:
    """A probability of a test, in two digits."""
    return "< .001" if p < 0.001 else f"{p:.3f}"[1:] if p < 0.1 else f"{p:.2f}".lstrip("0")


def quantity(value: float | None, unit: str) -> str:
    """A value, with its unit if that is a percentage: the names of other scales stand beside the score's."""
    if value is None:
        return "not defined"
    return number(value, unit) + ("\N{NO-BREAK SPACE}%" if unit == "%" else "")


def interval(ends: Sequence[float] | None, unit: str, signed: bool = False) -> str:
    """Both ends of an interval; empty if there is none."""
    if ends is None:
        return ""
    return " to ".join(number(end, unit, signed, like=max(map(abs, ends))) for end in ends)


def count(score: ScoreEntry) -> str:
    """How many images a rate was taken over, and how many of them it counts."""
    hits = (score["value"] or 0.0) * score["n"] / 100
    if (
        score["unit"] == "%"
        and score["value"] is not None
        and abs(hits - round(hits)) < 1e-6 * max(score["n"], 1)
    ):
        return f"{round(hits)} of {score['n']}"
    return str(score["n"])


def sentence(parts: Sequence[str]) -> str:
    """Parts of a sentence as one of their own."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def strongest_attack(scores: Mapping[str, ScoreEntry]) -> str | None:
    """The key of the highest success rate of an attack; None without one."""
    rates = {key: value for key in attacks(scores) if (value := scores[key]["value"]) is not None}
    return max(rates, key=lambda key: rates[key], default=None)


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
