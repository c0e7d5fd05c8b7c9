r"""Low-rank additions, one for each phrase, that take cross-attention off the phrase.

All factors of a phrase lie in one vector, so that phrases in one batch share forward passes and nothing else:
each has its own loss, its own gradient norm and its own random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unlearn.methods.closed_form.mace.fusion import Adapter
from unlearn.methods.method import Context
from unlearn.methods.phrases import Phrase
from unlearn.methods.training.loop import Composed, Optimizer, fit
from unlearn.methods.training.material.states import once
from unlearn.methods.training.surgery import clipped
from unlearn.models.model import Conditioning, DiffusionModel
from unlearn.models.sampling import Sampler, sample
from unlearn.models.weights.adapters import Factors, adapted, unpacked
from unlearn.models.weights.attention import recorded
from unlearn.models.weights.gradients import gradients_of
from unlearn.models.weights.parameters import Selection
from unlearn.settings import Settings, setting

TIMESTEPS = ("focal", "uniform")
MASKS = ("attention", "full")

#: Where the original model is asked what its attention looks at, as a share of all timesteps: the middle of
#: the focal law, where the layout of an image stands and its details do not.
MASK_TIME = 0.3

#: Below this, a sum of squares counts as 0 and has no gradient.
TINY = 1e-12


@dataclass(kw_only=True)
class Suppression(Settings):
    r"""How phrases are taken out of cross-attention.

    Attributes:
        lr: Learning rate.
        steps: Optimizer steps for each phrase.
        timesteps: ``focal``, :math:`p(t) \propto \sigma(0.05 (t - 200)) - \sigma(0.05 (t - 400))` for 1,000
            timesteps, or ``uniform``.
        masks: The pixels whose attention counts: ``full``, all of them, or ``attention``, those on which the
            original model's own attention to the phrase is above half of its maximum.
    """

    lr: float = setting(above=0)
    steps: int = setting(least=1)
    timesteps: str = setting(choices=TIMESTEPS)
    masks: str = setting(choices=MASKS)


def timestep_law(name: str, count: int) -> Tensor:
    """Probability of each of ``count`` timesteps, with shape :math:`(T,)`, float64."""
    if name == "uniform":
        return torch.full((count,), 1 / count, dtype=torch.float64)
    t = torch.arange(count, dtype=torch.float64) * 1000 / count
    weights = torch.sigmoid(0.05 * (t - 200)) - torch.sigmoid(0.05 * (t - 400))
    return weights / weights.sum()


def attended(maps: Tensor, tokens: Tensor, masks: Tensor | None = None) -> Tensor:
    r"""How much attention some tokens get: :math:`\| A \|_F` over heads, pixels and these tokens.

    Arguments:
        maps: Probabilities of one module, with shape :math:`(B, H, P, L)`; its pixels are those of a square.
        tokens: The tokens that count, with shape :math:`(B, L)`, bool.
        masks: The pixels that count, with shape :math:`(B, h, w)`; by default all. The nearest pixel decides
            where the module's resolution is another one.

    Returns:
        With shape :math:`(B,)`; next to 0, and without a gradient, if nothing counts.
    """
    squared = (maps.float().square() * tokens[:, None, None]).sum(dim=(1, 3))
    if masks is not None:
        side = int(maps.shape[2] ** 0.5)
        squared = squared * (interpolate(masks[:, None].float(), (side, side)) > 0.5).flatten(1)
    return squared.sum(dim=1).clamp(min=TINY).sqrt()


@dataclass(frozen=True)
class Images:
    """What the original model draws for :math:`T` phrases, :math:`N` images each.

    Attributes:
        latents: Clean latents, with shape :math:`(T, N, C, h, w)`.
        masks: Which pixels count, with shape :math:`(T, N, h, w)`, 0 or 1.
    """

    latents: Tensor
    masks: Tensor


@torch.no_grad()
def drawn(
    model: DiffusionModel,
    phrases: Sequence[Phrase],
    count: int,
    masks: str,
    sampler: Sampler,
    context: Context,
) -> Images:
    """Draws ``count`` images of each phrase, as latents, for its first sentences in turn.

    A run that goes on finds them in its scratch folder.
    """

    def make() -> dict[str, Tensor]:
        empty = model.encode([""])
        jobs = [(phrase, i) for phrase in phrases for i in range(count)]
        latents, seen = [], []
        for start in range(0, len(jobs), sampler.batch_size):
            chunk = [(p, i, i % len(p.sentences)) for p, i in jobs[start : start + sampler.batch_size]]
            prompts = model.encode([phrase.sentences[row] for phrase, _, row in chunk])
            seeds = [context.derive_seed("suppression", phrase.name, "image", i) for phrase, i, _ in chunk]
            clean, _ = sample(model, prompts, empty, seeds, sampler)
            latents.append(clean.cpu())
            seen.append(torch.ones_like(clean[:, 0]).cpu())
            if masks == "attention":
                own = torch.stack([phrase.own[row] for phrase, _, row in chunk])
                noise = [context.generator("suppression", phrase.name, "mask", i) for phrase, i, _ in chunk]
                seen[-1] = looked_at(model, clean, prompts, own, noise).cpu()
        found = {"latents": torch.cat(latents), "masks": torch.cat(seen)}
        return {name: each.reshape(len(phrases), count, *each.shape[1:]) for name, each in found.items()}

    return Images(**once(context.scratch / "images.safetensors", make, context.meter))


@torch.no_grad()
def looked_at(
    model: DiffusionModel,
    clean: Tensor,
    prompts: Conditioning,
    tokens: Tensor,
    random: Sequence[torch.Generator],
) -> Tensor:
    """Where the model's attention to some tokens is above half of its maximum.

    Arguments:
        clean: Latents, with shape :math:`(B, C, h, w)`.
        prompts: What they were drawn for.
        tokens: The tokens, with shape :math:`(B, L)`, bool.
        random: For the noise of each.

    Returns:
        With shape :math:`(B, h, w)`, 0 or 1. The attention is the mean over heads and the sum over tokens and
        modules, at one noise level.
    """
    noise = torch.stack([torch.randn(clean.shape[1:], generator=each) for each in random]).to(clean)
    t = torch.full((len(clean),), int(MASK_TIME * len(model.alphas_cumprod)), device=model.device)
    with recorded(model) as maps:
        model.predict(model.add_noise(clean, noise, t), t, prompts)
    total = torch.zeros(clean[:, :1].shape, device=clean.device)
    for each in maps:
        side = int(each.shape[2] ** 0.5)
        share = (each.float() * tokens[:, None, None]).sum(dim=3).mean(dim=1).reshape(-1, 1, side, side)
        total += interpolate(share, total.shape[2:], mode="bilinear", align_corners=False)
    return (total > total.amax(dim=(2, 3), keepdim=True) / 2)[:, 0].float()


@dataclass
class Trainer:
    """Trains the additions of all phrases on one model.

    Attributes:
        model: The model whose attention is suppressed.
        shapes: Shape :math:`(o, d)` of each weight that gets an addition, by full name.
        phrases: The phrases.
        images: What the original model draws for them.
        how: How they are trained.
        rank: :math:`r`.
        batch_size: Phrases that are trained at a time.
        context: Where random numbers come from and checkpoints lie.
    """

    model: DiffusionModel
    shapes: Mapping[str, tuple[int, int]]
    phrases: Sequence[Phrase]
    images: Images
    how: Suppression
    rank: int
    batch_size: int
    context: Context
    _encoded: dict[int, list[Conditioning]] = field(default_factory=dict, repr=False)

    def train(
        self, weight_decay: float, clip_norm: float | None
    ) -> tuple[list[Adapter], list[dict[str, float]]]:
        """Finds the additions of each phrase.

        Arguments:
            weight_decay: Share of the learning rate by which factors shrink each step.
            clip_norm: Largest norm of the gradient of one phrase's factors.

        Returns:
            One adapter a phrase, and ``step``, ``loss`` and ``lr`` of each step.
        """
        vectors = [nn.Parameter(self.start(phrase)) for phrase in self.phrases]

        def gradients(step: int) -> Composed:
            return self.gradients(vectors, step, clip_norm)

        selection = Selection({p.name: vector for p, vector in zip(self.phrases, vectors, strict=True)})
        steps = self.how.steps * -(-len(vectors) // self.batch_size)
        optimizer = Optimizer(lr=self.how.lr, weight_decay=weight_decay)
        history = fit(selection, gradients, steps, optimizer, self.context)
        found = []
        for vector in vectors:
            factors = self.factors(vector.detach()[None]).values()
            found.append(Adapter([down[0] for down, _ in factors], [up[0] for _, up in factors]))
        return found, history

    def start(self, phrase: Phrase) -> Tensor:
        r"""A vector of factors with :math:`A \sim N(0, 1 / r^2)` and :math:`B = 0`."""
        random = self.context.generator("suppression", phrase.name)
        parts = []
        for out, width in self.shapes.values():
            parts.append(torch.randn(self.rank * width, generator=random) / self.rank)
            parts.append(torch.zeros(out * self.rank))
        return torch.cat(parts).to(self.model.device)

    def factors(self, vectors: Tensor) -> Factors:
        """The factors that lie in vectors, with shape :math:`(B, K)`, by the weights that they add to."""
        return unpacked(vectors, self.shapes, self.rank)

    def gradients(self, vectors: Sequence[Tensor], step: int, clip_norm: float | None) -> Composed:
        """What each phrase follows whose turn it is, clipped on its own.

        Arguments:
            vectors: The factors of all phrases, each with shape :math:`(K,)`.
        """
        chunk, own = divmod(step, self.how.steps)
        first = chunk * self.batch_size
        numbers = list(range(first, min(first + self.batch_size, len(vectors))))
        chosen = [vectors[i] for i in numbers]
        loss = self.loss(torch.stack(chosen), numbers, own)
        found: list[Tensor | None] = [None] * len(vectors)
        for i, gradient in zip(numbers, gradients_of(loss, chosen), strict=True):
            found[i] = gradient if clip_norm is None else clipped([gradient], clip_norm)[0]
        return Composed(found, {"loss": loss.item()})

    def loss(self, vectors: Tensor, numbers: list[int], step: int) -> Tensor:
        """Attention to some phrases, added up over modules and phrases, with shape :math:`()`.

        Each phrase meets one of its images, one of its sentences, a timestep and noise, all at random.

        Arguments:
            vectors: The factors of the phrases, with shape :math:`(B, K)`.
            numbers: Which phrases they are.
            step: What the random numbers belong to.
        """
        model, encoded = self.model, self._sentences(numbers)
        law = timestep_law(self.how.timesteps, len(model.alphas_cumprod))
        latents, masks, timesteps, noise, prompts, tokens = [], [], [], [], [], []
        for phrase, i, sentences in zip((self.phrases[i] for i in numbers), numbers, encoded, strict=True):
            random = self.context.generator("suppression", phrase.name, step)
            image = int(torch.randint(self.images.latents.shape[1], (), generator=random))
            row = int(torch.randint(len(sentences), (), generator=random))
            timesteps.append(torch.multinomial(law, 1, generator=random))
            latents.append(self.images.latents[i, image])
            masks.append(self.images.masks[i, image])
            noise.append(torch.randn(latents[-1].shape, generator=random))
            prompts.append(sentences[[row]])
            tokens.append(phrase.own[row] | phrase.after[row])
        t = torch.cat(timesteps).to(model.device)
        clean, drawn = (torch.stack(parts).to(model.device, model.dtype) for parts in (latents, noise))
        with adapted(model, self.factors(vectors)), recorded(model) as maps:
            model.predict(model.add_noise(clean, drawn, t), t, Conditioning.cat(prompts))
        where, which = torch.stack(masks).to(model.device), torch.stack(tokens)
        return torch.stack([attended(each, which, where) for each in maps]).sum()

    @torch.no_grad()
    def _sentences(self, numbers: list[int]) -> list[Conditioning]:
        """The sentences of the phrases under training, encoded when their turn comes."""
        if numbers[0] not in self._encoded:
            self._encoded = {numbers[0]: [self.model.encode(self.phrases[i].sentences) for i in numbers]}
        return self._encoded[numbers[0]]
