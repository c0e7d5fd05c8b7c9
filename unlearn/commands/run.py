"""``unlearn run``: hands the command line to Hydra, and each of its jobs to :func:`unlearn.run.run`."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.config import register_schemas, resolve
from unlearn.errors import ConfigError
from unlearn.freeing import forget, give_back

# At import, because a launcher's worker process imports this module and nothing else.
register_schemas()

_failed: list[Exception] = []


@hydra.main(version_base="1.3", config_path="pkg://unlearn.conf", config_name="run")
def job(config: DictConfig) -> float | None:
    """One run, in a folder that Hydra has made for it.

    Returns:
        The value of the score named ``objective``, for sweepers that look for the best one.
    """
    try:
        return _done(config)
    except Exception as error:  # Hydra keeps it until the last job of a sweep is done
        forget(error)
        raise
    finally:
        give_back()


def _done(config: DictConfig) -> float | None:
    from unlearn.run import Label, run  # not needed where a configuration is only shown, or refused

    about = HydraConfig.get()
    folder = Path(about.runtime.output_dir)
    choices: dict[str, str] = dict(about.runtime.choices)
    try:
        settings = resolve(config)
        label = Label(
            name=folder.name,
            fingerprint=folder.name.rpartition("-")[2],
            method=choices["method"],
            model=choices["model"],
            concept=settings.concept.name,
            group=os.environ.get("WANDB_RUN_GROUP") if about.mode == RunMode.MULTIRUN else None,
        )
        plain: Any = OmegaConf.to_container(config, resolve=True)
        results = run(settings, folder, label, plain)
    except BaseException as error:
        if not any((folder / name).exists() for name in ("metrics.jsonl", "results.json")):
            shutil.rmtree(folder, ignore_errors=True)
        if not isinstance(error, Exception):
            raise
        if about.mode == RunMode.MULTIRUN:  # the others go on, and Hydra raises it again at the end
            print(f"unlearn: job {about.job.num} failed: {error}", file=sys.stderr)
            raise
        _failed.append(error)  # of a single run: raised by main(), since Hydra would add words of its own
        return None
    return None if settings.objective is None else results["scores"][settings.objective]["value"]


def main(words: Sequence[str]) -> None:
    """Runs ``unlearn run`` with the words behind it.

    Raises:
        ConfigError: If they do not compose.
    """
    # Hydra would print a part of the traceback and end the process: the command's own edge says it in a line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra's parser takes no flag between overrides, and -m is said anywhere.
    flags = [word for word in words if word in ("-m", "--multirun")]
    sys.argv = ["unlearn", *flags, *(word for word in words if word not in flags)]
    try:
        job()
    except (HydraException, OmegaConfBaseException) as error:
        from unlearn.commands.diagnosis import diagnose

        raise ConfigError(diagnose(words) or str(error)) from error
    if _failed:
        raise _failed.pop()


class Sweep(Callback):
    """Gives the jobs of a sweep a common group, unless the user has named one in ``WANDB_RUN_GROUP``."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Is called in the process that starts the jobs, whose environment they inherit."""
        os.environ.setdefault("WANDB_RUN_GROUP", time.strftime("sweep-%Y%m%d-%H%M%S"))
