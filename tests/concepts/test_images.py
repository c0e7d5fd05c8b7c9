"""Images on disk."""

import pytest
import torch

from unlearn.concepts.concept import PromptSet
from unlearn.concepts.images import ImageRequest, ImageSet, image_name, read_image, write_image
from unlearn.errors import ArtifactError


@pytest.fixture
def drawn(tmp_path):
    images = torch.randint(256, (5, 3, 6, 4), generator=torch.Generator().manual_seed(0)) / 255
    for index, image in enumerate(images):
        write_image(tmp_path / image_name(index), image)
    prompts = PromptSet("plain", ("a",) * 5, (0, 1, 2, 3, 4), ("",) * 5, ("c",) * 5)
    return ImageSet(ImageRequest("plain"), prompts, tmp_path), images


@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_reads_what_was_written_in_order(drawn, size):
    images, expected = drawn
    batches = list(images.batches(size))
    assert max(map(len, batches)) <= size
    torch.testing.assert_close(torch.cat(batches), expected, rtol=0, atol=1e-7)


def test_rounds_to_the_nearest_value(tmp_path):
    write_image(tmp_path / "x.png", torch.full((3, 2, 2), 0.5 + 0.4 / 255))
    assert read_image(tmp_path / "x.png").unique().tolist() == [pytest.approx(128 / 255)]
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_clips_and_refuses_nan(tmp_path):
    write_image(tmp_path / "x.png", torch.tensor([-1.0, 0.0, 2.0]).reshape(3, 1, 1))
    assert read_image(tmp_path / "x.png").flatten().tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="not finite"):
        write_image(tmp_path / "y.png", torch.full((3, 2, 2), torch.nan))
    assert not (tmp_path / "y.png").exists()


def test_names_a_missing_or_broken_image(drawn):
    images, _ = drawn
    whole = images.path(2).read_bytes()
    images.path(2).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"00002.png: the image cannot be read"):
        list(images.batches(2))
    images.path(2).unlink()
    with pytest.raises(ArtifactError, match=r"00002.png: the image cannot be read"):
        list(images.batches(2))
