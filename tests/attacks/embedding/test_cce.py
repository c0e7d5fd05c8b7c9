"""Circumventing Concept Erasure: what it learns, through what, and what it cannot bring back."""

from __future__ import annotations

import json
from dataclasses import replace

import attack_cases
import pytest
import torch
from attack_cases import SAMPLER, Red, cce, unlearndiffatk
from tiny_checkpoint import assert_untouched, state
from victims import misreading, never_knew

from unlearn.attacks.attack import AdversarialPrompts, Target
from unlearn.attacks.embedding.cce import ConceptInversion, replaced, spaced
from unlearn.attacks.embedding.learned_word import GUARDED, PROBES, Learning
from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.errors import ArtifactError, ConfigError, IncompatibleError
from unlearn.methods.guards.negative_prompt import NegativePromptGuard
from unlearn.methods.guards.sld import SLDGuard
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard
from unlearn.models.sampling import draw
from unlearn.models.words import Words, taught
from unlearn.pipeline.attacking import Attacked, learned
from unlearn.pipeline.drawing import Drawing, image_set
from unlearn.pipeline.erasing import Erased
from unlearn.seeding import derive_seed, generator
from unlearn.store.artifacts import Store

NEGATIVE = NegativePromptGuard(text="church")
SAFE = SLDGuard(text="church", warmup=0, scale=5.0, threshold=0.5, momentum_scale=0.3, momentum_decay=0.4)
GUARDS = pytest.mark.parametrize("guard", [NEGATIVE, SAFE], ids=["negative_prompt", "sld"])
PLAIN = replace(
    attack_cases.PLAIN, prompts=("a church", "a photo of a church, grey", "a cat"), concepts=("church",) * 3
)


def concept(name: str) -> Concept:
    return attack_cases.concept(
        name, phrases=[name], anchor="house", templates=["{a}", "a photo of {a}", "{a}, a sketch"]
    )


def target_of(model, erasure: Erasure | None = None, names=("church",)) -> Target:
    concepts = ConceptSet(erase={name: concept(name) for name in names})
    judge = Red(0.5, ("church", "cat"))
    return Target(model, erasure or Erasure(), concepts, dict.fromkeys(names, judge), SAMPLER)


def moved(model, *patterns: str, scale: float = 0.1) -> Erasure:
    random = generator(0)
    weights = {
        name: weight + scale * torch.randn(weight.shape, generator=random)
        for name, weight in model.named_parameters()
        if any(pattern in name for pattern in patterns)
    }
    assert weights
    return Erasure(weights=weights)


def learning(attack: ConceptInversion, target: Target, model, names=("church",)) -> Learning:
    signs = [["~", "^"], ["|", "#"]]
    lessons = [
        attack._lesson(target, name, own[: attack.vectors], derive_seed(0, "concept", name))
        for name, own in zip(names, signs, strict=False)
    ]
    return Learning(attack, model, lessons, SAMPLER, target.erasure.guard)


def slope(found: Learning):
    """Losses at the start, and their gradient."""
    start = found.start.clone().requires_grad_()
    losses = found.losses(start, 4, "x")
    return losses.detach(), torch.autograd.grad(losses.sum(), start)[0]


def test_only_the_tokens_of_the_word_are_read_otherwise(tiny):
    before = state(tiny)
    word = tiny.tokenize(["~"])[0, 1].item()
    words = Words((word,), torch.full((1, 32), 0.5, requires_grad=True))
    ids = tiny.tokenize(["a ~ house", "a house"])
    plain = tiny.embed(ids)
    with taught(tiny, words):
        found = tiny.embed(ids)
        sentence = tiny.encode(["a ~ house", "a house"]).tokens
    changed = (found != plain).any(dim=-1)
    assert torch.equal(changed, ids == word)
    assert torch.equal(found[0, 2], words.embeddings[0])
    assert torch.equal(tiny.embed(ids), plain)
    assert torch.equal(sentence[1], tiny.encode(["a house"]).tokens[0])
    # Attention is causal: what stands before the word does not know of it.
    assert torch.allclose(sentence[0, :2], tiny.encode(["a ~ house"]).tokens[0, :2], atol=1e-5)
    (gradient,) = torch.autograd.grad(sentence[0].sum(), words.embeddings)
    assert gradient.any()
    assert_untouched(tiny, before)
    with taught(tiny, Words((word,), plain[0, 2][None].detach())):  # its own embedding
        assert torch.equal(tiny.embed(ids), plain)


def test_the_hook_is_gone_whatever_happens(tiny):
    word = tiny.tokenize(["~"])[0, 1].item()
    plain = tiny.embed(torch.tensor([[word]]))
    with pytest.raises(KeyError), taught(tiny, Words((word,), torch.zeros(1, 32))):
        raise KeyError
    assert torch.equal(tiny.embed(torch.tensor([[word]])), plain)


def test_only_the_embeddings_change(tiny):
    before = state(tiny)
    erasure = moved(tiny, "attn2")
    found = cce().attack(target_of(tiny, erasure), PLAIN, generator(3))
    assert_untouched(tiny, before)
    assert found.prompts.prompts == ("a ~ ^", "a photo of a ~ ^ , grey", "~ ^ a cat")
    assert (found.prompts.seeds, found.plain) == (PLAIN.seeds, PLAIN.prompts)
    assert found.words.embeddings.shape == (2, 32)
    assert found.words.ids == tuple(tiny.tokenize(["~ ^"])[0, 1:3].tolist())
    again, other = (cce().attack(target_of(tiny, erasure), PLAIN, generator(seed)) for seed in (3, 4))
    assert torch.equal(again.words.embeddings, found.words.embeddings)
    assert again == found
    assert not torch.equal(other.words.embeddings, found.words.embeddings)


def test_learning_lowers_the_loss_on_draws_that_stay(tiny):
    target = target_of(tiny, moved(tiny, "attn2"))
    found = cce(steps=40, batch_size=4, lr=0.1).attack(target, PLAIN, generator(3))
    assert all(after < before for before, after in found.objective)
    assert len(set(found.objective)) == 1  # one word for all prompts of a concept


def test_the_erased_text_encoder_is_in_the_loop(tiny):
    """Left out, as by the authors' scripts, the loss would be that of another model."""
    erasure = moved(tiny, "text_encoder.encoder")
    attack, target = cce(), target_of(tiny, erasure)
    with target.erased() as model:
        through = learning(attack, target, model)
        erased, gradient = slope(through)
    bare = learning(attack, target, tiny)
    original, other = slope(bare)
    assert torch.equal(through.start, bare.start)
    assert not torch.allclose(erased, original, rtol=1e-4)
    assert not torch.allclose(gradient, other, rtol=1e-2)
    words = [attack.attack(target_of(tiny, each), PLAIN, generator(0)).words for each in (erasure, Erasure())]
    assert not torch.allclose(words[0].embeddings, words[1].embeddings, atol=1e-3)


def test_without_cross_attention_there_is_no_gradient(tiny):
    weights = {
        name: torch.zeros_like(weight) for name, weight in tiny.named_parameters() if "attn2.to_v" in name
    }
    target = target_of(tiny, Erasure(weights=weights))
    with target.erased() as model:
        _, gradient = slope(learning(cce(), target, model))
    assert not gradient.any()


def test_the_loss_is_that_of_denoising_the_originals_images(tiny):
    attack, target = cce(vectors=1), target_of(tiny, moved(tiny, "attn2"))
    with target.erased() as model:
        found = learning(attack, target, model)
        (lesson,) = found.lessons
        loss = found.losses(found.start, 3, "x")
        random = generator(lesson.seed, "x")
        rows = torch.randint(4, (3,), generator=random)
        t = torch.randint(1000, (3,), generator=random)
        noise = torch.randn(lesson.clean[rows].shape, generator=random)
        noisy = tiny.add_noise(lesson.clean[rows], noise, t)
        total = 0.0
        for i in range(3):
            # At its start the word is the anchor's embedding: the anchor says the same.
            said = tiny.embed(tiny.tokenize([lesson.told[rows[i]]])).detach().clone()
            place = tiny.tokenize([lesson.told[rows[i]]])[0].tolist().index(lesson.ids[0])
            said[0, place] = found.start[0, 0]
            predicted = tiny.predict(noisy[i : i + 1], t[i : i + 1], tiny.encode_embeddings(said))
            total += (predicted - noise[i : i + 1]).square().mean() / 3
    assert loss.item() == pytest.approx(total.item(), rel=1e-4)
    images = torch.cat(
        list(draw(tiny, [text.replace("~", "church") for text in lesson.told],
                  [derive_seed(lesson.seed, "image", i) for i in range(4)], SAMPLER))
    )  # fmt: skip
    decoded = torch.cat([tiny.decode(each[None]) for each in lesson.clean])
    assert torch.allclose(decoded, images, atol=0.3)
    assert not {derive_seed(lesson.seed, "image", i) for i in range(4)} & set(PLAIN.seeds)


def test_a_word_is_learned_as_it_would_be_alone(tiny):
    names = ("church", "cat")
    both = replace(PLAIN, concepts=("church", "church", "cat"))
    target = target_of(tiny, moved(tiny, "attn2"), names)
    together = cce().attack(target, both, generator(3))
    alone = cce().attack(target, both.limited(2), generator(3))
    assert together.words.embeddings.shape == (4, 32)
    assert torch.allclose(together.words.embeddings[:2], alone.words.embeddings, atol=1e-4)
    assert together.prompts.prompts == ("a ~ ^", "a photo of a ~ ^ , grey", "a | #")
    assert set(together.lengths) == set(names)


def test_forwards_are_shared_out_and_counted(tiny):
    before = tiny.forwards
    found = cce(steps=6).attack(target_of(tiny), PLAIN, generator(0))
    spent = 4 * SAMPLER.forwards + 2 * PROBES + 6 * 2  # images, the loss before and after, steps
    assert found.forwards == (spent // 3 + SAMPLER.forwards,) * 3
    assert tiny.forwards - before == spent + 3 * SAMPLER.forwards
    assert found.queries == (1, 1, 1)


def test_a_budget_leaves_fewer_steps(tiny):
    attack = replace(cce(steps=500), budget=40)
    bounded = attack.bounded(SAMPLER, PLAIN)
    assert bounded.budget is None
    found = bounded.attack(target_of(tiny), PLAIN, generator(0))
    assert max(found.forwards) <= 40
    assert sum(found.forwards) > 3 * 36
    assert replace(attack, budget=32).bounded(SAMPLER, PLAIN).steps == 2
    with pytest.raises(
        ConfigError, match=r"budget: a share of one step takes 32 denoiser forwards, got 31\."
    ):
        replace(attack, budget=31).bounded(SAMPLER, PLAIN)


def test_a_budget_is_that_of_the_prompts_that_there_are(tiny):
    """A word is paid by the prompts of its concept, however many more the attack would take."""
    attack = replace(cce(steps=500, prompts=100), budget=120)
    mixed = replace(PLAIN, concepts=("church", "cat", "church"))
    for prompts in (PLAIN, PLAIN.limited(1), mixed):
        bounded = attack.bounded(SAMPLER, prompts)
        target = target_of(tiny, names=tuple(dict.fromkeys(prompts.concepts)))
        assert 110 < max(bounded.attack(target, prompts, generator(0)).forwards) <= 120


def test_no_more_images_than_a_batch_are_predicted_at_a_time(tiny, monkeypatch, capsys):
    names = ("church", "cat")
    target, plain = target_of(tiny, names=names), replace(PLAIN, concepts=("church", "church", "cat"))
    whole = cce(steps=2).attack(target, plain, generator(0))
    sizes, fits, predict = [], [2], tiny.predict

    def counted(latents, *rest, **more):
        if torch.is_grad_enabled():
            sizes.append(len(latents))
            if len(latents) > fits[0]:
                raise RuntimeError("CUDA out of memory.")
        return predict(latents, *rest, **more)

    monkeypatch.setitem(vars(tiny), "predict", counted)
    cce(steps=2).attack(target, plain, generator(0))
    assert sizes == [2] * 4
    fits[0] = 1
    sizes.clear()
    halved = cce(steps=2).attack(target, plain, generator(0))
    assert sizes == [2] + [1] * 8
    assert "out of memory with 2 at once; goes on with 1" in capsys.readouterr().err
    assert torch.allclose(halved.words.embeddings, whole.words.embeddings, atol=1e-4)


def test_a_concept_that_the_original_never_shows_is_refused(tiny):
    target = target_of(tiny)
    target.detectors["church"].threshold = 2.0
    with pytest.raises(
        IncompatibleError, match=r"attack: none of 9 images .* shows church, .* attack's images"
    ):
        cce(images=9).attack(target, PLAIN, generator(0))


def test_lengths_are_kept_and_can_be_bounded(tiny):
    target = target_of(tiny)
    free = cce(lr=1.0).attack(target, PLAIN, generator(0))
    bound = cce(lr=1.0, longest=1.5).attack(target, PLAIN, generator(0))
    table = tiny.embed(torch.arange(len(tiny.tokenizer))[None])[0]
    ratios = free.words.embeddings.norm(dim=1) / table.norm(dim=1).mean()
    assert free.lengths["church"] == pytest.approx(ratios.tolist(), rel=1e-5)
    assert max(free.lengths["church"]) > 1.5
    assert max(bound.lengths["church"]) <= 1.5 * (1 + 1e-5)


@pytest.mark.parametrize("start", ["anchor", "mean"])
def test_starts_where_it_is_told_to(tiny, start):
    found = cce(start=start, lr=1e-30, weight_decay=0.0).attack(target_of(tiny), PLAIN, generator(0))
    ids = tiny.tokenize(["house"])[0].tolist()
    own = ids[1 : ids.index(tiny.tokenizer.eos_token_id, 1)]
    table = tiny.embed(torch.arange(len(tiny.tokenizer))[None])[0]
    expected = table[own].mean(dim=0) if start == "anchor" else table.mean(dim=0)
    for row in found.words.embeddings:
        assert torch.allclose(row, expected, atol=1e-6)


def test_the_word_is_drawn_with_in_the_next_stage_and_survives_the_disk(tiny, tmp_path):
    target = target_of(tiny, moved(tiny, "attn2"))
    found = cce(lr=0.5).attack(target, PLAIN, generator(0))
    folder = tmp_path / "attack"
    folder.mkdir()
    found.save(folder)
    loaded = AdversarialPrompts.load(folder)
    assert (loaded.prompts, loaded.objective) == (found.prompts, found.objective)
    assert json.loads((folder / "lengths.json").read_text()) == found.lengths
    attacks = {"x": Attacked(None, loaded, folder)}
    words = learned(attacks)
    assert torch.equal(words["attack:x"].embeddings, found.words.embeddings)
    assert words["attack:x"].fingerprint() == found.words.fingerprint()

    erased = Erased(target.erasure, tmp_path, {"source": {"model": 1}, "method": 2}, {})
    drawing = Drawing(lambda: tiny, SAMPLER, Store(tmp_path))

    def drawn(words):
        return image_set(ImageRequest("attack:x"), found.prompts, erased, drawing, words)

    spoken, silent = drawn(words["attack:x"]), drawn(None)
    assert spoken.folder != silent.folder
    with target.erased() as model, taught(model, found.words):
        expected = torch.cat(list(draw(model, found.prompts.prompts, found.prompts.seeds, SAMPLER)))
    pixels = torch.cat(list(spoken.batches(9)))
    assert torch.allclose(pixels, expected, atol=1 / 255)
    assert not torch.allclose(pixels, torch.cat(list(silent.batches(9))), atol=2 / 255)
    (folder / "words.safetensors").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"words.safetensors: cannot be read"):
        learned(attacks)


def test_an_attack_in_text_teaches_no_word(tmp_path):
    AdversarialPrompts(PLAIN, PLAIN.prompts, (1,) * 3, (1,) * 3, (False,) * 3).save(tmp_path)
    assert learned({"x": Attacked(None, AdversarialPrompts.load(tmp_path), tmp_path)}) == {}


def test_phrases_are_replaced_as_whole_words():
    assert replaced("A Church, grey", ["church"], "~") == "A ~ , grey"
    assert replaced("churchyard", ["church"], "~ ^") == "~ ^ churchyard"
    assert replaced("a nude person", ["person", "nude person"], "~") == "a ~"
    assert replaced("a church by a church", ["church"], "~") == "a ~ by a church"
    assert spaced("a~,x", ["~"]) == "a ~ ,x"


def test_signs_of_the_prompts_are_not_taken(tiny):
    asked = replace(PLAIN, prompts=("a church ~", "a church", "a church ^"))
    found = cce().attack(target_of(tiny), asked, generator(0))
    assert found.prompts.prompts[1] == "a | #"
    with pytest.raises(IncompatibleError, match="40 learned embeddings need as many signs"):
        cce(vectors=40).attack(target_of(tiny), asked, generator(0))


def test_a_guard_without_gradients_is_refused(tiny):
    with pytest.raises(
        IncompatibleError, match="ConceptInversion needs gradients, and this method acts while"
    ):
        cce().attack(target_of(tiny, Erasure(guard=Guard())), PLAIN, generator(0))
    with pytest.raises(IncompatibleError, match="UnlearnDiffAtk needs gradients"):
        target_of(tiny, Erasure(guard=NEGATIVE)).open_to(unlearndiffatk())


@GUARDS
def test_through_a_guard_the_guided_prediction_is_led_to_the_originals(tiny, guard):
    target, attack = target_of(tiny, Erasure(guard=guard)), cce(vectors=1)
    found = learning(attack, target, tiny)
    losses, gradient = slope(found)
    assert gradient.norm() > 0
    draws = found._draws(4, "x")
    place, rows = draws.at, range(4)
    with torch.no_grad():
        plain = [found.lessons[0].plain[found.lessons[0].told.index(text)] for text in draws.told]
        empty, asked = (tiny.encode(texts) for texts in ([""] * 4, plain))
        parts = [tiny.predict(draws.noisy, place.timestep, each) for each in (empty, asked)]
        assert torch.allclose(draws.wanted, parts[0] + 2.0 * (parts[1] - parts[0]), atol=1e-5)
        with taught(tiny, found.words(found.start)):
            told = tiny.encode(draws.told)
        under = tiny.predict(draws.noisy, place.timestep, tiny.encode([guard.text] * 4))
        said = tiny.predict(draws.noisy, place.timestep, told)
        if guard is NEGATIVE:
            guided = under + 2.0 * (said - under)
        else:
            push = (5 * (said - under).abs()).clamp(max=1) * (under - parts[0])
            guided = parts[0] + 2.0 * (said - parts[0] - torch.where(said - under < 0.5, push, 0))
        assert torch.allclose(losses[0], (guided - draws.wanted).square().mean(), rtol=1e-4)
        assert torch.allclose(found._errors(found.start, draws, rows).mean(), losses[0], rtol=1e-4)


@GUARDS
def test_a_word_is_learned_through_a_guard(tiny, guard):
    """Which the images of the attack are drawn under, too; it takes fewer steps for as many forwards."""
    target = target_of(tiny, Erasure(guard=guard))
    before, weights = tiny.forwards, state(tiny)
    found = cce(steps=100, lr=0.1).attack(target, PLAIN, generator(0))
    assert all(after < 0.9 * first for first, after in found.objective)
    assert found == cce(steps=100, lr=0.1).attack(target, PLAIN, generator(0))
    assert_untouched(tiny, weights)
    under = 2 + len(guard.extra_prompts())
    spent = 4 * SAMPLER.forwards + (2 + under) * (2 * PROBES + 2 * (100 // GUARDED))
    assert found.forwards == (spent // 3 + SAMPLER.steps * under,) * 3
    assert tiny.forwards - before == 2 * (spent + 3 * SAMPLER.steps * under)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        guide = type(guard).guide
        patch.setattr(type(guard), "guide", lambda self, step: drawn.append(step.index) or guide(self, step))
        cce(steps=5).attack(target, PLAIN, generator(0))
    assert drawn[-2:] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vectors": 0}, "vectors: must be at least 1, got 0"),
        ({"steps": 0}, "steps: must be at least 1, got 0"),
        ({"start": "ancor"}, "start: Unknown start 'ancor'. Did you mean 'anchor'"),
        ({"longest": 0.0}, "longest: must be a number above 0, or null for none, got 0.0"),
        ({"lr": 0.0}, "lr: must be a number above 0, got 0.0"),
        ({"weight_decay": -1.0}, "weight_decay: must be a number from 0 up, got -1.0"),
    ],
)
def test_refuses_settings_that_mean_nothing(changes, said):
    with pytest.raises(ValueError, match=said):
        cce(**changes)


@pytest.fixture(scope="module")
def pocket():
    import unlearn

    config = unlearn.configure("concept=church", "device=cpu", "eval=quick")
    return config, unlearn.load_model(config.model, "cpu")


def attacked(pocket, erasure: Erasure, steps: int) -> tuple[float, float, tuple[float, float]]:
    """Rates before and after the attack on seeds that it has not seen, and its loss before and after."""
    config, model = pocket
    sampler = replace(config.model.sampler, steps=8)
    detectors = {"church": config.eval.detectors["pocket_judge"]}
    target = Target(model, erasure, config.concepts, detectors, sampler)
    prompts = replace(config.concepts.prompt_set("plain").limited(6), name="attack:cce")
    attack = cce(prompts=6, vectors=1, images=8, steps=steps, batch_size=4, lr=0.02)
    found = attack.attack(target, prompts, generator(0))
    with target.erased() as erased, taught(erased, found.words):
        images = torch.cat(list(draw(erased, found.prompts.prompts, prompts.seeds, sampler)))
    before, after = (
        target.judge(each, "church")[0].double().mean().item()
        for each in (target.draw(prompts.prompts, prompts.seeds), images)
    )
    return before, after, found.objective[0]


def test_a_concept_that_has_lost_its_word_alone_comes_back(pocket):
    """The model draws a church for no text that says "church", which it reads as "house"."""
    before, after, (first, last) = attacked(pocket, misreading(pocket[1], {"church": "house"}), steps=40)
    assert before == 0
    assert after >= 0.5
    assert last < first


def test_a_model_that_never_knew_the_concept_does_not_give_it(pocket):
    """The denoiser is random: the loss falls, and no image shows anything."""
    before, after, (first, last) = attacked(pocket, never_knew(pocket[1]), steps=10)
    assert before == after == 0
    assert last < first
