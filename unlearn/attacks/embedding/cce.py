"""Circumventing Concept Erasure: a word for the concept, learned through the erased model."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, aimed, too_small
from unlearn.attacks.embedding.learned_word import PROBES, Learning, Lesson, Recipe
from unlearn.attacks.prompt_attack import unseen_seed
from unlearn.attacks.spaces import content
from unlearn.concepts.concept import PromptSet
from unlearn.concepts.sentences import fill
from unlearn.errors import IncompatibleError
from unlearn.models.sampling import Sampler, draw, sample
from unlearn.models.words import Words, taught
from unlearn.seeding import derive_seed
from unlearn.seeding import generator as seeded
from unlearn.settings import setting

#: What stands for a learned word in a text: signs that hardly any prompt has, each a token of its own.
SIGNS = "~^|#@=+*_[]`$%&"


@dataclass(frozen=True)
class LearnedPrompts(AdversarialPrompts):
    """Prompts in which signs stand for learned embeddings: the text alone is no attack.

    Attributes:
        words: The embeddings, of all concepts.
        lengths: By concept, the length of each of its embeddings, relative to the mean of the vocabulary's.
    """

    words: Words | None = field(default=None, compare=False)
    lengths: dict[str, list[float]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Writes ``attack.json``, ``words.safetensors`` and ``lengths.json``."""
        own = ("prompts", "plain", "queries", "forwards", "found", "objective")
        AdversarialPrompts(**{name: getattr(self, name) for name in own}).save(folder)
        if self.words is not None:
            self.words.save(folder)
        (folder / "lengths.json").write_text(json.dumps(self.lengths, indent=1) + "\n", "utf-8")


@dataclass(kw_only=True)
class ConceptInversion(Recipe, Attack):
    r"""Learns a word for each concept, and asks for the concept by that word.

    On images :math:`x` of the concept that the original model drew for sentences :math:`c`, with the same
    sentences :math:`c(s)` that say the word's embeddings :math:`s` in the concept's place, the loss is

    .. math:: \| \epsilon_\theta(x_t, t, E_\theta(c(s))) - \epsilon \|^2 ,

    textual inversion through the erased denoiser and the erased text encoder, of which nothing changes. The
    word then takes the concept's place in the plain prompts, or stands before those that do not say one of
    its phrases, and images are drawn with their seeds, which learning has not seen.

    This is no text attack: embeddings can be handed to whoever runs the weights, and cannot be typed. Signs
    such as ``~`` stand for them in the prompts, and the embeddings lie beside these. An embedding is free to
    hold what no word does, so that its length is kept with it (``lengths.json``), and can be bounded
    (``longest``). What a word costs is shared out over the prompts of its concept.

    Where what the method did is a guard :math:`G` of the loop, not weights, its guided prediction is led to
    the one that the original is guided to without it,

    .. math:: \| G(x_t, t, E(c(s))) - \epsilon_\varnothing - w \, (\epsilon_c - \epsilon_\varnothing) \|^2

    with guidance :math:`w`, at the timesteps of the loop. Each image of a step then takes up to
    :data:`~unlearn.attacks.embedding.learned_word.GUARDED` forwards instead of one, and so many times fewer
    steps are taken.

    The authors tell the model of each image by sentences that are drawn anew in each step, and draw all
    images from one sentence. Their scripts load erased denoisers only; erased text encoders have to be in the
    loop. For safe latent diffusion they go along several timesteps, for its momentum; here each step stands
    for itself, and other guards have no gradient (negative prompts have).

    References:
        | Circumventing Concept Erasure Methods For Text-to-Image Generative Models (Pham et al., 2024)
        | https://arxiv.org/abs/2308.01508

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        images: Images of each concept.
    """

    paper: ClassVar[str] = "2308.01508"
    white_box: ClassVar[bool] = True
    through_guards: ClassVar[bool] = True

    images: int = setting(least=1)

    @property
    def reads(self) -> frozenset[str]:
        """The sentences of its images, and the anchor where a word starts there."""
        return frozenset({"templates", "anchor"} if self.start == "anchor" else {"templates"})

    def _within(self, budget: int, sampler: Sampler, prompts: PromptSet) -> ConceptInversion:
        """Fewer steps: the prompts of a concept share what its word costs."""
        each = budget - sampler.forwards
        sharing = min(Counter(prompts.concepts).values(), default=1)
        steps = (sharing * each - 2 * PROBES - self.images * sampler.forwards) // self.batch_size
        if steps < 1:
            least = 2 * PROBES + self.images * sampler.forwards + self.batch_size
            raise too_small(budget, -(-least // sharing) + sampler.forwards, "a share of one step")
        return replace(self, steps=min(self.steps, steps), budget=None)

    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> LearnedPrompts:
        """The prompts with the word in the concept's place, and the word.

        Raises:
            IncompatibleError: If what the method did is a guard through which no gradient goes, the original
                model shows a concept in none of its images, or the tokenizer has no signs to spare.
        """
        target.open_to(self)
        root = generator.initial_seed()
        names = list(dict.fromkeys(prompts.concepts))
        signs = iter(self._signs(target, prompts.prompts, len(names) * self.vectors))
        lessons = []
        spent = target.model.forwards
        for name in names:
            own = [next(signs) for _ in range(self.vectors)]
            # Of a name, not a number: a word does not depend on what else is learned.
            lessons.append(self._lesson(target, name, own, derive_seed(root, "concept", name)))
        with target.erased() as model:
            learning = Learning(self, model, lessons, target.sampler, target.erasure.guard)
            embeddings = learning.learned()
            before, after = learning.probe(learning.start), learning.probe(embeddings)
            words, lengths = learning.words(embeddings), learning.lengths(embeddings)
        each = (target.model.forwards - spent) // len(names)
        word_of = {lesson.concept: lesson.word for lesson in lessons}
        texts = tuple(
            replaced(prompt, target.concepts.erase[name].phrases, word_of[name])
            for prompt, name in zip(prompts.prompts, prompts.concepts, strict=True)
        )
        self._check(target, texts, lessons, prompts.concepts)
        begun = target.model.forwards
        found = self._look(target, texts, prompts, words, root)
        target.heed(found)
        look = (target.model.forwards - begun) // len(texts)
        row = {name: number for number, name in enumerate(names)}
        shares = {name: each // prompts.concepts.count(name) for name in names}
        return LearnedPrompts(
            replace(prompts, prompts=texts),
            prompts.prompts,
            (1,) * len(texts),
            tuple(shares[name] + look for name in prompts.concepts),
            found,
            tuple((before[row[name]], after[row[name]]) for name in prompts.concepts),
            words=words,
            lengths=lengths,
        )

    def _signs(self, target: Target, texts: Sequence[str], count: int) -> list[str]:
        """Signs that are a token each and stand in none of the texts."""
        model = target.model
        said = "".join(texts) + "".join(
            sentence for concept in target.concepts.erase.values() for sentence in concept.sentences
        )
        found = [
            sign
            for sign in SIGNS
            if sign not in said and len(content(target, model.tokenize([sign]).cpu()[0].tolist())) == 1
        ]
        if len(found) < count:
            raise IncompatibleError(
                f"attack: {count} learned embeddings need as many signs that stand in no prompt, and the "
                f"model's tokenizer has {len(found)}. Take fewer vectors."
            )
        return found[:count]

    def _lesson(self, target: Target, name: str, signs: list[str], seed: int) -> Lesson:
        """Draws the images of one concept with the original model."""
        concept, model = target.concepts.erase[name], target.model
        templates, word = concept.sentences, " ".join(signs)
        order = torch.randperm(len(templates), generator=seeded(seed, "sentences")).tolist()
        rows = [order[i % len(order)] for i in range(self.images)]
        seeds = [derive_seed(seed, "image", i) for i in range(self.images)]
        size, clean, shown = target.sampler.batch_size, [], []
        with torch.no_grad():
            asked = model.encode([fill(template, concept.phrases[0]) for template in templates])
            empty = model.encode([""])
            for first in range(0, self.images, size):
                batch = slice(first, first + size)
                latents, _ = sample(model, asked[rows[batch]], empty, seeds[batch], target.sampler)
                clean.append(latents)
                shown += [target.sees(image, name) for image in model.decode(latents)]
        aimed(name, shown, "images")
        told = [spaced(fill(templates[row], word), signs) for row in rows]
        plain = [fill(templates[row], concept.phrases[0]) for row in rows]
        ids = tuple(content(target, model.tokenize([sign]).cpu()[0].tolist())[0] for sign in signs)
        return Lesson(name, concept, word, ids, torch.cat(clean), told, plain, seed)

    def _check(
        self, target: Target, texts: Sequence[str], lessons: Sequence[Lesson], concepts: Sequence[str]
    ) -> None:
        """Whether every text is read with the word in it, whole and once, before anything is drawn."""
        ids = {lesson.concept: list(lesson.ids) for lesson in lessons}
        for text, row, name in zip(texts, target.model.tokenize(texts).cpu().tolist(), concepts, strict=True):
            if [token for token in content(target, row) if token in ids[name]][: self.vectors] != ids[name]:
                raise IncompatibleError(f"attack: the tokenizer does not read the learned word in '{text}'.")

    def _look(
        self, target: Target, texts: Sequence[str], prompts: PromptSet, words: Words, root: int
    ) -> tuple[bool | None, ...]:
        """Whether an image of each prompt, with a seed of the attack's own, shows the concept; None where the
        detector failed.
        """
        seeds = [unseen_seed(root, index, prompts) for index in range(len(texts))]
        with target.erased() as model, taught(model, words):
            images = torch.cat(list(draw(model, texts, seeds, target.sampler, guard=target.erasure.guard)))
        return tuple(target.sees(image, name) for image, name in zip(images, prompts.concepts, strict=True))


def replaced(prompt: str, phrases: Sequence[str], word: str) -> str:
    """The prompt with the word in place of the longest of the phrases that it says, or else before it."""
    for phrase in sorted(phrases, key=len, reverse=True):
        pattern = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)
        if pattern.search(prompt):
            return spaced(pattern.sub(lambda _: word, prompt, count=1), word.split())
    return f"{word} {prompt}"


def spaced(text: str, signs: Sequence[str]) -> str:
    """The text with blanks around each sign, so that it is read as a token of its own."""
    for sign in signs:
        text = text.replace(sign, f" {sign} ")
    return " ".join(text.split())
