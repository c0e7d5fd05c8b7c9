"""A finished run, found again from its folder: its model and what was erased from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.errors import ArtifactError, ConfigError
from unlearn.results import read_results

if TYPE_CHECKING:
    from unlearn.config import RunConfig
    from unlearn.models.model import Erasure


def configuration(folder: Path) -> RunConfig:
    """The configuration of a run, composed again from what its command line said.

    Raises:
        ConfigError: If the folder is none, or its configuration no longer composes.
        ArtifactError: If it holds no finished run.
    """
    import yaml

    from unlearn.config import composed, resolve

    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder. Give the folder of a finished run.")
    hydra = folder / ".hydra"
    try:
        overrides = yaml.safe_load((hydra / "overrides.yaml").read_text(encoding="utf-8"))
        sources = yaml.safe_load((hydra / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]["runtime"]
    except (OSError, yaml.YAMLError, KeyError) as error:
        raise ArtifactError(f"{hydra}: does not tell how the run was started ({error}).") from None
    own = [source["path"] for source in sources["config_sources"] if source["provider"] == "command-line"]
    if own:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{path}' for path in own)}]")
    return resolve(composed(overrides))


def erasure(folder: Path) -> Erasure:
    """What the run erased.

    Raises:
        ArtifactError: If the run is not finished, or the erasure is gone or damaged.
    """
    from unlearn.models.erasure import Erasure

    artifact = read_results(folder)["artifacts"].get("erasure")
    if artifact is None or artifact["path"] is None or not (folder / artifact["path"]).is_dir():
        raise ArtifactError(f"{folder}: the erasure is gone from outputs/artifacts. Repeat the run.")
    return Erasure.load(folder / artifact["path"])
