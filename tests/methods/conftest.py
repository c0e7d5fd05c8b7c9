from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from unlearn.methods.method import Context, Meter


@pytest.fixture
def context(tmp_path: Path) -> Context:
    meter = Meter(SimpleNamespace(forwards=0))
    return Context(seed=0, scratch=tmp_path, log=lambda _values, _step: None, progress=False, meter=meter)


@pytest.fixture(scope="session")
def golden_tiny(golden: Path):
    """The model that the authors' code was run on. Shared: tests must leave its weights as they are."""
    from unlearn.models.sampling import Sampler
    from unlearn.models.sd import StableDiffusion

    return StableDiffusion(
        world="sd",
        source=str(golden / "tiny-sd"),
        revision=None,
        dtype="float32",
        clip="",
        inception="",
        sampler=Sampler(scheduler="pndm", steps=8, guidance=3.0, resolution=64, batch_size=4),
    ).load("cpu")
