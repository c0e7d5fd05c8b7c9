import torch

from unlearn.seeding import derive_seed, generator


def test_seeds_are_the_same_on_every_machine():
    assert derive_seed(0, "erase", 3) == 701611027356260137


def test_scopes_do_not_collide():
    scopes = [(), ("a",), ("b",), ("a", "b"), ("a/b",), ("ab",), ("1",), (1,), ("a", 1), ("a", 2)]
    seeds = {derive_seed(seed, *scope) for seed in (0, 1) for scope in scopes}
    assert len(seeds) == 2 * len(scopes)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generator_repeats_and_leaves_the_global_stream_alone():
    state = torch.get_rng_state()
    first, second = (torch.randn(4, generator=generator(7, "noise")) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.randn(4, generator=generator(7, "other")))
    assert torch.equal(state, torch.get_rng_state())
