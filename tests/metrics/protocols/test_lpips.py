"""LPIPS, against the package that others take it from."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
from colour_world import picture

from unlearn.detectors.lpips import LPIPS, PACKAGES
from unlearn.errors import ConfigError
from unlearn.metrics.protocols.lpips import ErasedPerceptualDistance, PerceptualDistance, PerceptualGap

HEADS = Path(find_spec("torchmetrics").submodule_search_locations[0]) / PACKAGES["torchmetrics"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with AlexNet's weights, drawn at random."""
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.alexnet(weights=None).state_dict(), path)
    return path


def network(weights, **changes):
    return LPIPS(**({"weights": str(weights), "heads": None, "size": 64, "device": "cpu"} | changes))


def images(count, size=64, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_the_squared_distance_of_features_is_torchmetrics_lpips(weights, monkeypatch):
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as lpips

    known = torchvision.models.alexnet(weights=None)
    known.load_state_dict(torch.load(weights, weights_only=True))
    monkeypatch.setattr(torchvision.models, "alexnet", lambda **_: known)
    x, y = images(4), images(4, seed=1)
    y[1] = x[1]
    ours = (network(weights).features(x) - network(weights).features(y)).square().sum(dim=1)
    for i in range(4):
        theirs = lpips(x[i : i + 1], y[i : i + 1], net_type="alex", normalize=True).item()
        assert ours[i].item() == pytest.approx(theirs, rel=1e-4, abs=1e-7)
    assert ours[1] == 0
    assert (ours[[0, 2, 3]] > 1e-4).all()


def test_images_are_resized_with_antialiasing(weights):
    stripes = torch.zeros(1, 3, 256, 256)
    stripes[..., ::4] = 1  # every fourth column: a quarter grey, once resized
    grey = torch.full((1, 3, 64, 64), 0.25)
    distance = (network(weights).features(stripes) - network(weights).features(grey)).square().sum()
    aliased = network(weights).features(stripes[..., ::4, ::4]) - network(weights).features(grey)
    assert distance < 0.02 * aliased.square().sum()


def test_what_is_missing_is_said_and_nothing_takes_its_place(weights, tmp_path, monkeypatch):
    lost = str(tmp_path / "lost.pth")
    assert network(lost).check() == [f"weights: there is no file {lost}."]
    assert network(weights, heads=lost).check() == [f"heads: there is no file {lost}."]
    monkeypatch.setattr("unlearn.detectors.lpips.find_spec", lambda _: None)
    said = ["heads: needs the file alex.pth of LPIPS 0.1, which comes with torchmetrics and lpips."]
    assert network(weights).check() == said
    with pytest.raises(ConfigError, match=r"alex\.pth of LPIPS"):
        network(weights).features(images(1))
    with pytest.raises(ConfigError, match=r"alex\.pth of LPIPS"):
        _ = network(weights).files
    assert network(weights, heads=str(HEADS)).files == [weights, HEADS]
    assert network(weights, heads=str(HEADS)).check() == []


def test_a_file_that_is_something_else_is_said(weights, tmp_path):
    other = tmp_path / "other.pth"
    torch.save({"lin0.model.1.weight": torch.ones(1, 64, 1, 1)}, other)
    with pytest.raises(ConfigError, match=r"other.pth cannot be loaded .*Take alex.pth of LPIPS 0.1"):
        network(weights, heads=str(other)).features(images(1))


class Squares(LPIPS):
    """Two features of an image: what it is like in red and in green."""

    def features(self, images):
        return images.mean(dim=(2, 3))[:, :2]


def test_the_scores_are_means_over_roles_and_their_difference(build):
    drawn = {
        ("plain", "erased"): [picture("house"), picture("house")],
        ("plain", "original"): [picture("church"), picture("house")],
        ("neighbour", "erased"): [picture("cat")] * 3,
        ("neighbour", "original"): [picture("cat"), picture("cat"), picture("house")],
    }
    detectors = {"lpips": Squares(weights=None, heads=None, size=64, device="cpu")}
    evidence = build(drawn, detectors=detectors)
    gone, kept, gap = (
        metric.score(evidence)
        for metric in (
            ErasedPerceptualDistance(features="lpips", roles=["plain"]),
            PerceptualDistance(features="lpips", roles=["neighbour"]),
            PerceptualGap(features="lpips", erased=["plain"], kept=["neighbour"]),
        )
    )
    step = round(0.8 * 255) / 255 - round(0.1 * 255) / 255
    assert gone.value == pytest.approx(step**2 / 2)
    assert kept.value == pytest.approx(step**2 / 3)
    assert gap.value == pytest.approx(step**2 / 6)
    assert (gone.better, kept.better, gap.better) == ("higher", "lower", "higher")
    assert (gap.n, gap.unit) == (5, "LPIPS")
    assert gone.original.value == 0
    assert gap.interval[0] < gap.value < gap.interval[1]


def test_a_metric_asks_for_an_lpips():
    wrong = PerceptualDistance(features="clip", roles=["plain"])
    assert wrong.check({"clip": object(), "lpips": network("x")}) == [
        "features: 'clip' does not serve here. Those that do: lpips."
    ]
