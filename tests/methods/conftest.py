from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from unlearn.methods.method import Context, Meter


@pytest.fixture
def context(tmp_path: Path) -> Context:
    meter = Meter(SimpleNamespace(forwards=0))
    return Context(seed=0, scratch=tmp_path, log=lambda _values, _step: None, progress=False, meter=meter)
