"""White-box attacks: tokens chosen by gradients through the erased model, for many prompts at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, too_small
from unlearn.attacks.findings import Finding, gathered, kept
from unlearn.attacks.fitting import Fitting
from unlearn.attacks.layout import Layout
from unlearn.attacks.noise_matching import Bank, Case, NoiseMatching
from unlearn.attacks.prompt_attack import unseen_seed
from unlearn.attacks.spaces import AddedTokens, content, stable_words
from unlearn.attacks.token_searches import NearestTokens, TokenDistributions, Tokens
from unlearn.concepts import PromptSet
from unlearn.models.gradients import gradients_of
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler
from unlearn.seeding import derive_seed
from unlearn.seeding import generator as seeded

#: Draws on which the objective is compared between the start and the end.
PROBES = 4


@dataclass(kw_only=True)
class GradientAttack(Attack):
    """Searches for tokens by gradients, and looks at images of the best now and then.

    A look draws images of each prompt's tokens of choice with seeds of the attack's own. Where all of them
    show the concept the search is over, and the prompt leaves the batch; else the tokens with which the
    detector's probability was highest are taken in the end. Every prompt is attacked, whether or not it shows
    the concept as it is.

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        space: Where tokens are added.
        objective: What the gradient is of.
        search: How it becomes tokens.
        looks: How often images are looked at.
        steps: Gradient steps before each look.
        images: Images of each prompt in a look.
        batch_size: Prompts that are attacked together.
    """

    paper: ClassVar[str] = ""
    white_box: ClassVar[bool] = True

    space: AddedTokens
    objective: NoiseMatching
    search: Any
    looks: int
    steps: int
    images: int
    batch_size: int

    def __post_init__(self) -> None:
        for key in ("prompts", "looks", "steps", "images", "batch_size"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, got {getattr(self, key)}")

    def _within(self, budget: int, sampler: Sampler, prompts: PromptSet) -> GradientAttack:  # noqa: ARG002
        looks = range(1, self.looks + 1)
        if not (affordable := [count for count in looks if self.forwards(count, sampler) <= budget]):
            raise too_small(budget, self.forwards(1, sampler), "one look, with what comes before it,")
        return replace(self, looks=affordable[-1], budget=None)

    def forwards(self, looks: int, sampler: Sampler) -> int:
        """Denoiser forwards for each prompt of so many looks, if none ends the search."""
        before = self.objective.forwards(looks * self.steps, sampler) + 2 * min(PROBES, looks * self.steps)
        return before + looks * (self.steps + self.images * sampler.forwards)

    def attack(self, target: Target, prompts: PromptSet, generator: Generator) -> AdversarialPrompts:
        """One adversarial prompt for each of ``prompts``.

        Raises:
            IncompatibleError: If what the method did is a guard, through which no gradient goes.
        """
        from tqdm import tqdm

        target.open_to(self)
        cases, together = self.cases(prompts, generator), Fitting(self.batch_size)
        found: dict[Case, Finding] = {}
        with tqdm(total=len(cases), desc="attack", unit="prompt", disable=None) as bar:
            for number, batch in enumerate(self._batches(target, cases)):
                attacked = partial(self._all, target, batch, together)
                found |= zip(batch, kept(target.scratch, f"batch{number}", attacked), strict=True)
                bar.update(len(batch))
        return gathered([found[case] for case in cases], prompts)

    def _all(self, target: Target, cases: Sequence[Case], together: Fitting) -> list[Finding]:
        """Attacks some prompts in one batch, or in as many as memory makes of it."""
        parts = together.over(cases, lambda part: self._together(target, part))
        return [
            Finding(one.prompt, one.queries, one.forwards, one.shown, (one.objective[0], one.objective[1]))
            for results in parts
            for one in results
        ]

    def cases(self, prompts: PromptSet, generator: Generator) -> list[Case]:
        """The prompts, each with random streams of its own that depend on its position alone."""
        root = generator.initial_seed()
        return [
            Case(
                prompt,
                concept,
                derive_seed(root, "case", index),
                tuple(unseen_seed(root, index * self.images + i, prompts) for i in range(self.images)),
            )
            for index, (prompt, concept) in enumerate(zip(prompts.prompts, prompts.concepts, strict=True))
        ]

    def _batches(self, target: Target, cases: Sequence[Case]) -> Iterator[list[Case]]:
        """The prompts that are attacked together: as many tokens are added to each."""
        alike: dict[int, list[Case]] = {}
        for case in cases:
            own = content(target, target.model.tokenize([case.prompt]).cpu()[0].tolist())
            alike.setdefault(self.space.count(len(own)), []).append(case)
        for group in alike.values():
            for start in range(0, len(group), self.batch_size):
                yield group[start : start + self.batch_size]

    def _together(self, target: Target, cases: Sequence[Case]) -> list[Found]:
        """Attacks some prompts in one batch."""
        begun = target.model.forwards
        bank = self.objective.bank(target, cases, self.looks, self.steps)
        spent = (target.model.forwards - begun) // len(cases)
        live = list(range(len(cases)))
        with target.erased() as model:
            vocabulary = stable_words(target).to(model.device)
            with torch.no_grad():
                table = model.embed(vocabulary[None])[0]
                layouts = [Layout.of(target, self.space, case.prompt) for case in cases]
            tokens = self.search.start(
                table, len(layouts[0].places), [seeded(case.seed, "search") for case in cases]
            )
            chosen = vocabulary[tokens.best()].cpu()
            found = [Found(case.prompt, row, spent) for case, row in zip(cases, chosen, strict=True)]
            self._probe(model, bank, layouts, found)
            for look in range(self.looks):
                begun = target.model.forwards
                for step in range(look * self.steps, (look + 1) * self.steps):
                    self._step(model, bank, tokens, [layouts[row] for row in live], live, step)
                chosen = vocabulary[tokens.best()].cpu()
                self._look(target, [cases[row] for row in live], chosen, [found[row] for row in live])
                spent = (target.model.forwards - begun) // len(live)
                for row in live:
                    found[row].forwards += spent
                left = [i for i, row in enumerate(live) if not found[row].shown]
                if not left:
                    break
                if len(left) < len(live):
                    tokens.keep(left)
                    live = [live[i] for i in left]
            self._probe(model, bank, layouts, found)
        return found

    @torch.no_grad()
    def _probe(
        self, model: DiffusionModel, bank: Bank, layouts: Sequence[Layout], found: Sequence[Found]
    ) -> None:
        """Notes the objective on draws that are the same whatever the tokens: between steps, draws differ."""
        begun = model.forwards
        tokens = torch.stack([one.tokens for one in found]).to(model.device)
        conditioning = _encoded(model, layouts, model.embed(tokens))
        total, rows = self.looks * self.steps, range(len(layouts))
        numbers = dict.fromkeys(int((i + 0.5) * total / PROBES) for i in range(PROBES))
        losses = torch.stack([bank.loss(number, conditioning, rows) for number in numbers]).mean(dim=0)
        for one, loss in zip(found, losses.tolist(), strict=True):
            one.objective.append(loss)
            one.forwards += (model.forwards - begun) // len(found)

    def _step(
        self,
        model: DiffusionModel,
        bank: Bank,
        tokens: Tokens,
        layouts: Sequence[Layout],
        rows: Sequence[int],
        step: int,
    ) -> None:
        """One gradient step for each prompt that is still under attack, in one forward pass."""
        # A gradient in half precision would be rounded away.
        added = tokens.table[tokens.tried()].to(tokens.values.dtype).requires_grad_()
        conditioning = _encoded(model, layouts, added)
        (gradient,) = gradients_of(bank.loss(step, conditioning, rows).sum(), [added])
        if step == 0 and not gradient.any():
            warnings.warn(
                f"attack: the objective of {type(self).__name__} has no gradient in the tokens, so it "
                "searches blindly, and a low success rate says nothing. Something between the text and the "
                "prediction stops it.",
                stacklevel=2,
            )
        with torch.no_grad():
            tokens.step(gradient)

    def _look(self, target: Target, cases: Sequence[Case], chosen: Tensor, found: Sequence[Found]) -> None:
        """Draws the tokens of choice and notes the best so far."""
        texts = [self.space.text(target, case.prompt, row) for case, row in zip(cases, chosen, strict=True)]
        images = target.draw(
            [text for text in texts for _ in range(self.images)],
            [seed for case in cases for seed in case.images],
        )
        drawn = torch.split(images, self.images)
        for case, text, row, own, one in zip(cases, texts, chosen, drawn, found, strict=True):
            shown, probability = target.judge(own, case.concept)
            one.queries += 1
            score = probability.mean().item()
            if bool(shown.all()) or (score > one.score and not one.shown):
                one.prompt, one.score, one.shown, one.tokens = text, score, bool(shown.all()), row


@dataclass
class Found:
    """The best so far for one prompt.

    Attributes:
        prompt: Its text.
        tokens: Its added tokens, with shape :math:`(K)`, on the CPU.
        forwards: Denoiser forwards spent.
        queries: Candidates that were looked at.
        score: The detector's mean probability of the concept.
        shown: Whether all images showed it.
        objective: The objective for the tokens at the start, and in the end.
    """

    prompt: str
    tokens: Tensor
    forwards: int
    queries: int = 0
    score: float = -1.0
    shown: bool = False
    objective: list[float] = field(default_factory=list)


def _encoded(model: DiffusionModel, layouts: Sequence[Layout], added: Tensor) -> Conditioning:
    """Prompts with the added tokens' embeddings, with shape :math:`(B, K, E)`, in their places."""
    base = torch.stack([layout.embeddings for layout in layouts])
    places = torch.stack([layout.places for layout in layouts])
    ends = torch.tensor([layout.end for layout in layouts], device=base.device)
    index = (torch.arange(len(base), device=base.device)[:, None], places)
    return model.encode_embeddings(torch.index_put(base, index, added.to(base.dtype)), ends)


@dataclass(kw_only=True)
class UnlearnDiffAtk(GradientAttack):
    """Tokens before the prompt that make the erased model its own classifier of the concept.

    It departs from the authors' code in what its numbers should not depend on: noise is drawn anew in each
    step where the code repeats forty draws, images are drawn with seeds that the evaluation does not use, and
    only whole words are chosen, which survive being written.

    References:
        | To Generate or Not? Safety-Driven Unlearned Diffusion Models Are Still Easy to Generate Unsafe
        | Images ... For Now (Zhang et al., 2023)
        | https://arxiv.org/abs/2310.11868
    """

    paper: ClassVar[str] = "2310.11868"
    search: TokenDistributions


@dataclass(kw_only=True)
class P4D(GradientAttack):
    """Tokens under which the erased model predicts what the original does for the plain prompt.

    The authors choose among looks by the likeness of images; here the detector chooses, as for all attacks.
    Theirs ask the original model in every step, on one image, with a context that is padded otherwise than
    the prompt that is drawn; here its predictions are taken once.

    References:
        | Prompting4Debugging: Red-Teaming Text-to-Image Diffusion Models by Finding Problematic Prompts
        | (Chin et al., 2023)
        | https://arxiv.org/abs/2309.06135
    """

    paper: ClassVar[str] = "2309.06135"
    search: NearestTokens
