"""How alike features are."""

import torch

from unlearn.statistics.similarity import clip_similarity


def test_clip_similarity_is_the_cosine_and_not_clamped():
    x, y = torch.tensor([[3.0, 0], [1, 1]]), torch.tensor([[-2.0, 0], [1, 0]])
    torch.testing.assert_close(clip_similarity(x, y), torch.tensor([-1, 0.5**0.5], dtype=torch.double))
