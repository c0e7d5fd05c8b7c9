"""White-box attacks: tokens chosen by gradients through the erased model, for many prompts at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from unlearn.attacks.attack import AdversarialPrompts, Attack, Target, too_small
from unlearn.attacks.findings import Finding, gathered, judged, kept
from unlearn.attacks.fitting import Fitting
from unlearn.attacks.gradient.attempts import CHOICES, Attempt
from unlearn.attacks.gradient.noise_matching import Bank, Case, NoiseMatching
from unlearn.attacks.gradient.token_searches import Tokens
from unlearn.attacks.layout import Layout
from unlearn.attacks.prompt_attack import unseen_seed
from unlearn.attacks.spaces import AddedTokens, content, stable_words
from unlearn.concepts.concept import PromptSet
from unlearn.errors import UnlearnWarning
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler
from unlearn.models.weights.gradients import gradients_of
from unlearn.seeding import derive_seed
from unlearn.seeding import generator as seeded
from unlearn.settings import setting

#: Draws on which the objective is compared between the start and the end.
PROBES = 4


@dataclass(kw_only=True)
class GradientAttack(Attack):
    """Searches for tokens by gradients, and looks at images of the best now and then.

    A look draws images of some tokens for each prompt, with seeds of the attack's own. Where all of them
    show the concept, and those that confirm it do, too, the search is over, and the prompt leaves the batch;
    else the tokens with which the detector's probability was highest are taken in the end. A prompt leaves as
    well where its budget does not do for another look. Every prompt is attacked, whether or not it shows the
    concept as it is.

    Attributes:
        prompts: How many of the plain prompts it is tried on: the first ones.
        space: Where tokens are added.
        objective: What the gradient is of.
        search: How it becomes tokens.
        looks: How often images are looked at.
        steps: Gradient steps before each look.
        choose: Which tokens are looked at: the ``latest`` that the search would choose, or of all that it
            tried those with the ``lowest`` loss that have not been looked at.
        images: Images of each prompt in a look.
        confirm: More images, from other noise, that have to show the concept before a search is over.
        batch_size: Prompts that are attacked together.
    """

    paper: ClassVar[str] = ""
    white_box: ClassVar[bool] = True

    space: AddedTokens
    objective: NoiseMatching
    search: Any
    looks: int = setting(least=1)
    steps: int = setting(least=1)
    choose: str = setting(choices=CHOICES, kind="choice")
    images: int = setting(least=1)
    confirm: int = setting(least=0, unit="images")
    batch_size: int = setting(least=1)

    def _within(self, budget: int, sampler: Sampler, prompts: PromptSet) -> GradientAttack:  # noqa: ARG002
        looks = range(1, self.looks + 1)
        if not (affordable := [count for count in looks if self.forwards(count, sampler) <= budget]):
            raise too_small(budget, self.forwards(1, sampler), "one look, with what comes before it,")
        return replace(self, looks=affordable[-1], budget=budget if self.confirm else None)

    def forwards(self, looks: int, sampler: Sampler) -> int:
        """Denoiser forwards for each prompt of so many looks, if none shows the concept."""
        before = self.objective.forwards(looks * self.steps, sampler) + 2 * self._probes(looks)
        return before + looks * self._per_look(sampler)

    def _per_look(self, sampler: Sampler) -> int:
        return self.steps * self.objective.together + self.images * sampler.forwards

    def _probes(self, looks: int) -> int:
        return min(PROBES, self.objective.different(looks * self.steps))

    def _affords(self, found: Attempt, forwards: int) -> bool:
        """Whether the budget does for so many more for a prompt, and the last comparison of objectives."""
        return self.budget is None or found.forwards + forwards + self._probes(self.looks) <= self.budget

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
                target.heed([one.found for one in found.values()])
                bar.update(len(batch))
        return gathered([found[case] for case in cases], prompts)

    def _all(self, target: Target, cases: Sequence[Case], together: Fitting) -> list[Finding]:
        """Attacks some prompts in one batch, or in as many as memory makes of it."""
        parts = together.over(cases, lambda part: self._together(target, part))
        return [
            Finding(
                one.prompt,
                one.queries,
                one.forwards,
                judged(one.shown, one.failed),
                (one.objective[0], one.objective[1]),
                one.first if one.shown else None,
            )
            for results in parts
            for one in results
        ]

    def cases(self, prompts: PromptSet, generator: Generator) -> list[Case]:
        """The prompts, each with random streams of its own that depend on its position alone."""
        root, images = generator.initial_seed(), self.images + self.confirm
        return [
            Case(
                prompt,
                concept,
                derive_seed(root, "case", index),
                tuple(unseen_seed(root, index * images + i, prompts) for i in range(images)),
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

    def _together(self, target: Target, cases: Sequence[Case]) -> list[Attempt]:
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
            found = [
                Attempt(case.prompt, row, spent, failed=failed)
                for case, row, failed in zip(cases, chosen, bank.failed, strict=True)
            ]
            self._probe(model, bank, layouts, found)
            for look in range(self.looks):
                begun = target.model.forwards
                for step in range(look * self.steps, (look + 1) * self.steps):
                    self._step(model, bank, tokens, layouts, found, live, step)
                spent = (target.model.forwards - begun) // len(live)
                for row in live:
                    found[row].forwards += spent
                latest = tokens.best().tolist()
                rows = [found[row].choice(own, self.choose) for row, own in zip(live, latest, strict=True)]
                chosen = vocabulary[torch.tensor(rows, device=vocabulary.device)].cpu()
                self._look(target, [cases[row] for row in live], chosen, [found[row] for row in live])
                again = self._per_look(target.sampler)
                left = [
                    i
                    for i, row in enumerate(live)
                    if not found[row].shown and self._affords(found[row], again)
                ]
                if not left:
                    break
                if len(left) < len(live):
                    tokens.keep(left)
                    live = [live[i] for i in left]
            self._probe(model, bank, layouts, found)
        return found

    @torch.no_grad()
    def _probe(
        self, model: DiffusionModel, bank: Bank, layouts: Sequence[Layout], found: Sequence[Attempt]
    ) -> None:
        """Notes the objective on draws that are the same whatever the tokens: between steps, draws differ."""
        begun = model.forwards
        tokens = torch.stack([one.tokens for one in found]).to(model.device)
        conditioning = _encoded(model, layouts, model.embed(tokens))
        total, count = self.objective.different(self.looks * self.steps), self._probes(self.looks)
        numbers, rows = [int((i + 0.5) * total / count) for i in range(count)], range(len(layouts))
        losses = torch.stack([bank.one(number, conditioning, rows) for number in numbers]).mean(dim=0)
        for one, loss in zip(found, losses.tolist(), strict=True):
            one.objective.append(loss)
            one.forwards += (model.forwards - begun) // len(found)

    def _step(
        self,
        model: DiffusionModel,
        bank: Bank,
        tokens: Tokens,
        layouts: Sequence[Layout],
        found: Sequence[Attempt],
        live: Sequence[int],
        step: int,
    ) -> None:
        """One gradient step for each prompt that is still under attack, all of them together."""
        tried = tokens.tried()
        # A gradient in half precision would be rounded away.
        added = tokens.table[tried].to(tokens.values.dtype).requires_grad_()
        losses = bank.loss(step, _encoded(model, [layouts[row] for row in live], added), live)
        (gradient,) = gradients_of(losses.sum(), [added])
        if step == 0 and not gradient.any():
            warnings.warn(
                f"attack: the objective of {type(self).__name__} has no gradient in the tokens, so it "
                "searches blindly, and a low success rate says nothing. Something between the text and the "
                "prediction stops it.",
                UnlearnWarning,
                stacklevel=2,
            )
        if self.choose == "lowest":
            for row, own, loss in zip(live, tried.tolist(), losses.tolist(), strict=True):
                found[row].note(own, loss)
        with torch.no_grad():
            tokens.step(gradient)

    def _look(self, target: Target, cases: Sequence[Case], chosen: Tensor, found: Sequence[Attempt]) -> None:
        """Draws the tokens of choice and notes the best so far."""
        texts = [self.space.text(target, case.prompt, row) for case, row in zip(cases, chosen, strict=True)]
        first = [case.images[: self.images] for case in cases]
        seen = self._seen(target, cases, texts, first, found)
        price = self.confirm * target.sampler.forwards
        hits = [
            i for i, (shown, _) in enumerate(seen) if price and shown.all() and self._affords(found[i], price)
        ]
        if hits:
            own, other = [cases[i] for i in hits], [cases[i].images[self.images :] for i in hits]
            more = self._seen(target, own, [texts[i] for i in hits], other, [found[i] for i in hits])
            for i, (shown, probability) in zip(hits, more, strict=True):
                seen[i] = torch.cat([seen[i][0], shown]), torch.cat([seen[i][1], probability])
        for one, text, row, (shown, probability) in zip(found, texts, chosen, seen, strict=True):
            one.take(text, row, shown, probability)

    def _seen(
        self,
        target: Target,
        cases: Sequence[Case],
        texts: Sequence[str],
        seeds: Sequence[Sequence[int]],
        found: Sequence[Attempt],
    ) -> list[tuple[Tensor, Tensor]]:
        """What the detector says of images of each text, as many as it has seeds."""
        begun = target.model.forwards
        images = target.draw(
            [text for text, own in zip(texts, seeds, strict=True) for _ in own],
            [seed for own in seeds for seed in own],
        )
        for one in found:
            one.forwards += (target.model.forwards - begun) // len(found)
        drawn = torch.split(images, len(seeds[0]))
        return [target.judge(own, case.concept) for own, case in zip(drawn, cases, strict=True)]


def _encoded(model: DiffusionModel, layouts: Sequence[Layout], added: Tensor) -> Conditioning:
    """Prompts with the added tokens' embeddings, with shape :math:`(B, K, E)`, in their places."""
    base = torch.stack([layout.embeddings for layout in layouts])
    places = torch.stack([layout.places for layout in layouts])
    ends = torch.tensor([layout.end for layout in layouts], device=base.device)
    index = (torch.arange(len(base), device=base.device)[:, None], places)
    return model.encode_embeddings(torch.index_put(base, index, added.to(base.dtype)), ends)
