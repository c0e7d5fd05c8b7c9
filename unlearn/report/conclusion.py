"""The verdict on a run in words: one sentence, what it rests on, and the four answers of the first screen."""

from __future__ import annotations

from dataclasses import dataclass

from unlearn.report.wording import count, number, plain, quantity, title
from unlearn.store.layout import Results, ScoreEntry
from unlearn.verdict.axes import (
    ENOUGH_IMAGES,
    ENOUGH_PROMPTS,
    GOOD,
    OTHER_WORDS,
    SPECIFIC,
    TOGETHER,
    Axis,
    Scores,
    attacked,
    attacks,
    measured,
    worst,
)
from unlearn.verdict.verdict import Verdict, verdict

QUESTIONS = {"erased": "Erased?", "specific": "Still specific?", "good": "Still good?", "robust": "Robust?"}
ANSWERS = {"yes": "yes", "no": "no", "undecided": "undecided", "unmeasured": "not measured"}
ASKED = {"specific": SPECIFIC, "good": GOOD}


@dataclass(frozen=True)
class Answer:
    """One of the four questions.

    Attributes:
        question: It, with its mark.
        state: As in :class:`Axis`; undecided where a yes or no is over too few images.
        said: The answer in a word or two.
        numbers: What it rests on.
    """

    question: str
    state: str
    said: str
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Conclusion:
    """What a reader sees first.

    Attributes:
        kind: The verdict, one of :data:`KINDS`.
        tone: ``"good"``, ``"poor"`` or ``"unknown"``.
        headline: The verdict as a sentence without its stop.
        rest: What else belongs to it, each beginning with a small letter.
        answers: To the four questions.
    """

    kind: str
    tone: str
    headline: str
    rest: tuple[str, ...]
    answers: tuple[Answer, ...]

    def __str__(self) -> str:
        return "; ".join([self.headline, *self.rest]) + "."


def conclusion(results: Results) -> Conclusion:
    """What a run shows, as far as its numbers carry."""
    found, scores = verdict(results), results["scores"]
    return Conclusion(
        kind=found.kind,
        tone=found.tone,
        headline=_headline(found, results),
        rest=tuple(_rest(found, results)),
        answers=tuple(_answer(name, axis, scores, found.thin) for name, axis in found.axes.items()),
    )


def _headline(found: Verdict, results: Results) -> str:
    method, model, asked = results["method"], plain(results["model"]), _asked(results)
    if found.kind == "unmeasured":
        return f"This run did not measure whether {_concept(results)} was erased"
    score = results["scores"]["erased"]
    before, after = _original(score), quantity(score["value"], "%")
    on = f"{score['n']} plain prompts"
    if found.kind == "untouched":
        return f"Nothing was erased: {model} shows {asked} in {after} of images on {on}"
    if found.kind == "unknown":
        return f"{model} itself shows {asked} in only {before} of images on {on}: no erasure can be shown"
    went = f"images that show {'them' if _steps(results) else asked} went from {before} to {after} on {on}"
    if found.kind == "unjudgeable":
        went = (
            f"{score['unsure']} of {score['n']} images show nothing that the judge can tell, so that from "
            f"{after} to {quantity(worst(score), '%')} may show {_them(results)} ({before} before)"
        )
    if found.kind == "destroyed":
        kept = results["scores"][found.because[0]]
        left = (
            f"{title(found.because[0]).lower()} fell from {_original(kept)} to {quantity(kept['value'], '%')}"
        )
        went = f"{left}, so that it proves nothing that {went}"
    if found.thin:
        return f"An indication of {_noun(found)}, no proof: {went}"
    return f"{method} {_verb(found, results)}: {went}"


def _verb(found: Verdict, results: Results) -> str:
    """What the method did, said of enough images."""
    concept, model = _concept(results), plain(results["model"])
    erased = f"erased {concept} from {model}"
    return {
        "destroyed": f"destroyed {model}",
        "not erased": f"did not erase {concept} from {model}",
        "weakened": f"weakened {concept} in {model} without erasing {_them(results)}",
        "unjudgeable": f"cannot be judged on {concept}",
        "in name only": f"{erased} in name only",
        "at a cost": f"{erased} at the cost of {_costs(found)}",
        "broken": f"{erased}, and an attack ({_attack(found)}) brings {_them(results)} back",
        "not attacked": f"{erased}, not attacked yet",
        "open": f"{erased}, the rest undecided",
        "held": f"{erased}, and it held",
    }[found.kind]


def _noun(found: Verdict) -> str:
    """The same, said of too few images to claim it."""
    return {
        "destroyed": "a destroyed model",
        "not erased": "no erasure",
        "weakened": "a concept weakened, not erased",
        "unjudgeable": "images that cannot be judged",
        "in name only": "an erasure in name only",
        "at a cost": f"an erasure at the cost of {_costs(found)}",
        "broken": f"an erasure that an attack ({_attack(found)}) undoes",
        "not attacked": "an erasure, not attacked yet",
        "open": "an erasure, the rest undecided",
        "held": "an erasure that held",
    }[found.kind]


def _costs(found: Verdict) -> str:
    names = {
        "retained": "neighbouring concepts",
        "unrelated": "unrelated concepts",
        "clip_score": "how well images fit their prompts",
    }
    return " and ".join(names.get(key, plain(key)) for key in found.because)


def _attack(found: Verdict) -> str:
    if found.because[0] == TOGETHER:
        return "any of them"
    return plain(found.because[0].removeprefix("asr_"))


def _rest(found: Verdict, results: Results) -> list[str]:
    """What else a reader must know before believing the headline."""
    scores, parts = results["scores"], []
    for key in (*OTHER_WORDS, *SPECIFIC):
        if (score := measured(scores, key)) and key not in _told(found):
            parts.append(f"{_lower(key)} {quantity(score['value'], '%')} ({_original(score)} before)")
    for key in attacks(scores):
        if (score := measured(scores, key)) and not (found.kind == "broken" and key == found.because[0]):
            name = f"{'attack' if key in attacked(results) else 'the control'} {plain(key[4:])}"
            parts.append(f"{name}: {quantity(score['value'], '%')} of {score['n']} prompts")
    if found.kind != "unjudgeable" and (score := measured(scores, "erased")) and score["unsure"]:
        parts.append(
            f"the judge cannot tell what {score['unsure']} of {score['n']} images show (with them, at most "
            f"{quantity(worst(score), '%')})"
        )
    if found.thin:
        few = ", ".join(f"{_lower(key)} {scores[key]['n']} of {scores[key]['prompts']}" for key in found.thin)
        parts.append(
            f"a proof takes {ENOUGH_IMAGES} images of {ENOUGH_PROMPTS} prompts for each question, and there "
            f"are: {few}"
        )
    return parts


def _told(found: Verdict) -> tuple[str, ...]:
    return found.because if found.kind == "destroyed" else ()


def _answer(name: str, axis: Axis, scores: Scores, thin: tuple[str, ...]) -> Answer:
    keys = axis.scores or tuple(key for key in ASKED.get(name, ()) if measured(scores, key))
    numbers = tuple(f"{_lower(key)} {_change(scores[key])}" for key in keys)
    if axis.state in ("yes", "no") and set(axis.scores) & set(thin):
        return Answer(QUESTIONS[name], "undecided", f"an indication: {axis.state}", numbers)
    return Answer(QUESTIONS[name], axis.state, ANSWERS[axis.state], numbers)


def _change(score: ScoreEntry) -> str:
    """A score in a few words: counts of a rate, values of anything else."""
    if score["unit"] != "%":
        original = score["original"]
        before = "" if original is None else f", {number(original['value'], score['unit'])} before"
        return f"{number(score['value'], score['unit'])}{before}"
    unsure = f", {score['unsure']} cannot be told" if score["unsure"] else ""
    return f"{count(score)}{unsure}"


def _lower(key: str) -> str:
    text = title(key)
    return text if text.isupper() else text[:1].lower() + text[1:]


def _original(score: ScoreEntry) -> str:
    return quantity(score["original"]["value"] if score["original"] else None, score["unit"])


def _steps(results: Results) -> int:
    return len(results.get("steps", ()))


def _concept(results: Results) -> str:
    return f"all {_steps(results)} concepts" if _steps(results) else plain(results["concept"])


def _asked(results: Results) -> str:
    return "what was asked" if _steps(results) else plain(results["concept"])


def _them(results: Results) -> str:
    return "them" if _steps(results) else "it"
