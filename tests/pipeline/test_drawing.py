"""Drawing: each image once."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from noise_world import CHANGED, PROMPTS, SAMPLER, Dark, Model, generate, noise

from unlearn.concepts.images import ImageRequest
from unlearn.errors import UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.pipeline import drawing
from unlearn.pipeline.drawing import Drawing, image_set
from unlearn.pipeline.erasing import Erased
from unlearn.store.artifacts import Store
from unlearn.store.provenance import made_by


@pytest.fixture(autouse=True)
def _noise(monkeypatch):
    monkeypatch.setattr(drawing, "draw", noise)


def pixels(images):
    return torch.cat(list(images.batches(3)))


def test_draws_in_order_and_only_once(tmp_path):
    model = Model()
    images = generate(Store(tmp_path), model)
    expected = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.5
    torch.testing.assert_close(pixels(images)[2], expected, rtol=0, atol=0.5 / 255 + 1e-6)
    again = generate(Store(tmp_path), None)
    assert again.folder == images.folder
    assert model.drawn == 5


def test_methods_share_the_originals_images(tmp_path):
    model, store = Model(), Store(tmp_path)
    original = generate(store, model, ImageRequest("plain", "original"))
    other = Erasure(weights={"unet.y": torch.zeros(1)})
    assert generate(store, model, ImageRequest("plain", "original"), other).folder == original.folder
    assert generate(store, model).folder != original.folder
    assert model.drawn == 10


def test_an_erasure_that_changes_nothing_is_the_original(tmp_path):
    model, store = Model(), Store(tmp_path)
    original = generate(store, model, ImageRequest("plain", "original"))
    assert generate(store, model, erasure=Erasure()).folder == original.folder


def test_an_erasure_that_is_a_guard_alone_is_drawn_with_it_and_shares_nothing(tmp_path):
    model, store, guarded = Model(), Store(tmp_path), Erasure(guard=Dark())
    original = generate(store, model, ImageRequest("plain", "original"), guarded)
    erased = generate(store, model, erasure=guarded)
    assert erased.folder != original.folder
    assert pixels(original).max() > 0.5
    assert pixels(erased).max() == 0


def test_images_are_drawn_anew_for_other_seeds_prompts_samplers_sources_and_words(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "taught", lambda *_: nullcontext())
    model, store = Model(), Store(tmp_path)
    first = generate(store, model)
    erased = Erased(CHANGED, Path(), {"source": {"model": 1}, "method": "x"}, {})

    def drawn(prompts=PROMPTS, sampler=SAMPLER, words=None, **inputs):
        done = replace(erased, inputs={**erased.inputs, **inputs})
        within = Drawing(lambda: model, sampler, store)
        return image_set(ImageRequest("plain"), prompts, done, within, words)

    word = SimpleNamespace(fingerprint=lambda: "learned")
    other = {
        "seeds": drawn(PROMPTS.reseeded(1)),
        "prompts": drawn(replace(PROMPTS, prompts=tuple("abcdx"))),
        "order": drawn(replace(PROMPTS, seeds=PROMPTS.seeds[::-1])),
        "sampler": drawn(sampler=replace(SAMPLER, guidance=2.0)),
        "method": drawn(method="y"),
        "words": drawn(words=word),
    }
    assert drawn().folder == first.folder
    assert len({first.folder, *(each.folder for each in other.values())}) == 1 + len(other)
    assert torch.equal(pixels(other["order"]), pixels(first).flip(0))
    assert not torch.equal(pixels(other["seeds"]), pixels(first))
    # What images should show is asked of them later.
    assert drawn(replace(PROMPTS, shows=("blue",) * 5)).folder == first.folder


def test_images_say_what_they_were_made_from(tmp_path, monkeypatch):
    """By these names two runs are told apart, and artifacts of earlier versions found again."""
    monkeypatch.setattr(drawing, "taught", lambda *_: nullcontext())
    erased = Erased(CHANGED, Path(), {"source": {"model": 1}, "method": "x"}, {})
    word, within = SimpleNamespace(fingerprint=lambda: "learned"), Drawing(Model, SAMPLER, Store(tmp_path))
    made = {
        "original": image_set(ImageRequest("plain", "original"), PROMPTS, erased, within),
        "erased": image_set(ImageRequest("plain"), PROMPTS, erased, within, word),
    }
    code = made_by(image_set, SAMPLER)
    source = {"original": {"model": 1}, "erased": erased.inputs}
    for model, images in made.items():
        inputs = json.loads((images.folder / "inputs.json").read_text())
        own = {"prompts": list(PROMPTS.prompts), "seeds": list(PROMPTS.seeds), "source": source[model]}
        words = {"words": "learned"} if model == "erased" else {}
        assert {key: inputs[key] for key in inputs if key != "sampler"} == {**own, **words, **code}
        assert inputs["sampler"]["guidance"] == SAMPLER.guidance


def test_each_request_gets_its_own_prompts_and_words(tmp_path, monkeypatch):
    taught = []
    monkeypatch.setattr(drawing, "taught", lambda _, words: taught.append(words) or nullcontext())
    sets = {"plain": PROMPTS, "attack:x": replace(PROMPTS.limited(2), name="attack:x")}
    erased = Erased(CHANGED, Path(), {"source": {"model": 1}}, {})
    word = SimpleNamespace(fingerprint=lambda: "learned")
    needed = [ImageRequest("plain"), ImageRequest("attack:x")]
    within = Drawing(Model, SAMPLER, Store(tmp_path))
    found = drawing.generate(needed, sets, erased, within, {"attack:x": word})
    assert list(found) == needed
    assert {request: (each.request, each.prompts) for request, each in found.items()} == {
        request: (request, sets[request.prompts]) for request in needed
    }
    assert taught == [None, word]


def test_an_interrupted_drawing_goes_on_and_ends_alike(tmp_path):
    model, undisturbed = Model(limit=4), generate(Store(tmp_path / "a"), Model())
    with pytest.raises(KeyboardInterrupt):
        generate(Store(tmp_path / "b"), model)
    assert not list((tmp_path / "b" / "images").glob("[!.]*"))
    model = Model()
    resumed = generate(Store(tmp_path / "b"), model)
    assert model.drawn == 1
    assert torch.equal(pixels(resumed), pixels(undisturbed))


def test_goes_on_at_the_beginning_of_a_batch(tmp_path):
    store = Store(tmp_path)
    model = Model(limit=2)
    with pytest.raises(KeyboardInterrupt):
        generate(store, model)
    next(tmp_path.rglob("00001.png")).unlink()
    model = Model()
    generate(store, model)
    assert model.drawn == 5


def test_no_prompts_no_model(tmp_path):
    assert len(generate(Store(tmp_path), None, prompts=PROMPTS.limited(0))) == 0


def test_images_that_are_not_finite_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "draw", lambda *_, **__: iter([torch.full((2, 3, 8, 8), torch.nan)]))
    with pytest.raises(UnlearnError, match=r"erased:plain: the image of 'a' \(seed 1\) is not finite"):
        generate(Store(tmp_path), Model())
