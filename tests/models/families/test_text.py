"""The text tower: run on embeddings, it is bit for bit the library's own."""

import copy

import pytest
import torch

from unlearn.models.families.text import run_tower

PROMPTS = ["a photo of a cat", "", "a church beside a house"]


@pytest.fixture(params=["eager", "sdpa"])
def tower(tiny, request):
    found = copy.deepcopy(tiny.parts["text_encoder"])
    found.set_attn_implementation(request.param)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_embeddings_go_where_tokens_would(tiny, tower, dtype):
    ids, tower = tiny.tokenize(PROMPTS), tower.to(dtype)
    rows = tower.get_input_embeddings()(ids)
    assert torch.equal(run_tower(tower, rows), tower(input_ids=ids).last_hidden_state)
    # Whatever ids were run before, and afterwards the table is as it was.
    assert torch.equal(run_tower(tower, rows.flip(0)), tower(input_ids=ids.flip(0)).last_hidden_state)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_embeddings_and_the_weights(tiny, tower, checkpointing):
    if checkpointing:
        tower.gradient_checkpointing_enable()
        tower.train()  # has no dropout; the library recomputes in training only
    ids, table = tiny.tokenize(PROMPTS), tower.get_input_embeddings()
    weights = [p.requires_grad_() for name, p in tower.named_parameters() if "q_proj" in name]
    rows = table(ids).detach().requires_grad_()
    found = torch.autograd.grad(run_tower(tower, rows).square().sum(), [rows, *weights])
    table.weight.requires_grad_()
    wanted = torch.autograd.grad(
        tower(input_ids=ids).last_hidden_state.square().sum(), [table.weight, *weights]
    )
    assert all(torch.equal(a, b) for a, b in zip(found[1:], wanted[1:], strict=True))
    summed = torch.zeros_like(table.weight).index_add_(0, ids.flatten(), found[0].flatten(0, 1))
    assert torch.allclose(summed, wanted[0], rtol=1e-4, atol=1e-5)


def test_the_table_is_itself_again_after_a_failure(tiny, tower):
    table = tower.get_input_embeddings()
    with pytest.raises(RuntimeError):
        run_tower(tower, torch.zeros(1, 5, 7))
    ids = tiny.tokenize(PROMPTS)
    assert torch.equal(table(ids), table.weight[ids])
