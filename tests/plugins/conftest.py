"""Plug-ins that are forgotten after a test."""

import sys

import pytest
from hydra.core.config_store import ConfigStore

from unlearn.catalogue import TABLES
from unlearn.models.guards import GUARDS
from unlearn.plugins import folders, loading
from unlearn.store import provenance


@pytest.fixture
def forgetting(monkeypatch):
    """What a test loads is not there for the next one."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    kept = [*TABLES.values(), GUARDS, folders.FOLDERS, loading.ORIGINS]
    before, modules, loaded = [dict(each) for each in kept], set(sys.modules), set(loading._loaded)
    yield
    repo = ConfigStore.instance().repo
    for group, name in loading.ORIGINS:
        for place in (repo["schema"][group], repo.get(group, {})):
            place.pop(f"{name}.yaml", None)
    for each, old in zip(kept, before, strict=True):
        each.clear()
        each.update(old)
    for name in set(sys.modules) - modules:
        if not name.startswith(("unlearn.", "torch", "hydra", "diffusers", "transformers")):
            del sys.modules[name]
    loading._loaded.intersection_update(loaded)
    folders.SAID.clear()
    provenance._seen.clear()
    provenance._home.cache_clear()
