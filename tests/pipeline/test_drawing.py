"""Drawing: each image once."""

import pytest
import torch
from noise_world import PROMPTS, Dark, Model, generate, noise

from unlearn.concepts.images import ImageRequest
from unlearn.errors import UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.pipeline import drawing
from unlearn.store.artifacts import Store


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
