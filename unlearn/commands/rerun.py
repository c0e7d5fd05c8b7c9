"""A finished run, found again from its folder: its model and what was erased from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn.errors import ArtifactError, ConfigError
from unlearn.plugins.folders import absolute
from unlearn.store.results import read_results

if TYPE_CHECKING:
    from unlearn.config.schemas import RunConfig
    from unlearn.models.erasure import Erasure
    from unlearn.models.families.sd import StableDiffusion

GIVEN = ("command-line", "hydra.searchpath in command-line")
"""What Hydra calls folders of ``--config-dir`` and of ``hydra.searchpath``."""


def configuration(folder: Path) -> RunConfig:
    """The configuration of a run, composed again from what its command line said.

    Raises:
        ConfigError: If the folder is none, or its configuration no longer composes.
        ArtifactError: If it holds no finished run.
    """
    import yaml

    from unlearn.config.compose import composed
    from unlearn.config.resolve import resolve

    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder. Give the folder of a finished run.")
    hydra = folder / ".hydra"
    try:
        overrides = yaml.safe_load((hydra / "overrides.yaml").read_text(encoding="utf-8"))
        sources = yaml.safe_load((hydra / "hydra.yaml").read_text(encoding="utf-8"))["hydra"]["runtime"]
    except (OSError, yaml.YAMLError, KeyError) as error:
        raise ArtifactError(f"{hydra}: does not tell how the run was started ({error}).") from None
    own = [source["path"] for source in sources["config_sources"] if source["provider"] in GIVEN]
    if own:
        overrides.append(f"hydra.searchpath=[{','.join(f'file://{path}' for path in own)}]")
    return resolve(composed(absolute(overrides, Path(sources["cwd"]))))


def check_model(folder: Path, card: StableDiffusion) -> None:
    """Finds out whether the original model is still the one that the run erased from.

    Arguments:
        card: The model's settings, out of the run's configuration.

    Raises:
        ArtifactError: If its files are others now, or the erasure is gone.
    """
    from unlearn.store.artifacts import INPUTS
    from unlearn.store.digests import digest_of

    try:
        known = json.loads((_artifact(folder) / INPUTS).read_text(encoding="utf-8"))["source"]["weights"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{folder}: does not tell what its erasure was made from ({error}).") from None
    now = digest_of(card.files())
    if len(known) == len(now) and known != now:  # what is shorter, an older version wrote, and tells less
        raise ArtifactError(
            f"model.source: '{card.source}' holds other files than when {folder} was made, and its "
            "erasure is of those. Put them back, or repeat the run."
        )


def erasure(folder: Path) -> Erasure:
    """What the run erased.

    Raises:
        ArtifactError: If the run is not finished, or the erasure is gone or damaged.
    """
    from unlearn.models.erasure import Erasure

    return Erasure.load(_artifact(folder))


def _artifact(folder: Path) -> Path:
    artifact = read_results(folder)["artifacts"].get("erasure")
    if artifact is None or artifact["path"] is None or not (folder / artifact["path"]).is_dir():
        raise ArtifactError(f"{folder}: the erasure is gone from outputs/artifacts. Repeat the run.")
    return folder / artifact["path"]
