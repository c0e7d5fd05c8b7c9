"""``unlearn run``: hands the command line to Hydra, and each of its jobs to
:func:`unlearn.pipeline.run.run`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from unlearn.commands.folder import RunFolder, check_ours, check_sweep
from unlearn.config.compose import register_schemas
from unlearn.config.effects import ineffective
from unlearn.config.identity import signature
from unlearn.config.resolve import resolve
from unlearn.config.schemas import RunConfig
from unlearn.errors import ConfigError
from unlearn.plugins.loading import homes, load
from unlearn.system.confidential import Filter, redacted, stated
from unlearn.system.freeing import forget, give_back
from unlearn.system.heard import listening
from unlearn.system.writing import FULL, check_writable, explained

# At import, because a launcher's worker process imports this module and nothing else.
register_schemas()

#: Environment variable with the keys that a sweep has several values for.
SWEPT = "UNLEARN_SWEPT"

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
    from unlearn.pipeline.label import Label
    from unlearn.pipeline.run import run

    load(HydraConfig.get().overrides.task)  # in a launcher's process, plug-ins are not yet there
    about = HydraConfig.get()
    folder = Path(about.runtime.output_dir)
    place = RunFolder(folder, folder / f"{about.job.name}.log")
    choices: dict[str, str] = dict(about.runtime.choices)
    try:
        check_writable(Path(str(config.outputs)), "outputs")
        settings = _resolved(config, about)
        own = signature(config)
        place.check(own)
        label = Label(
            name=folder.name,
            fingerprint=own,
            method=choices["method"],
            model=choices["model"],
            concept=settings.concept.name,
            seed=settings.seed,
            seeds={
                "erase": settings.seeds.erase,
                "generate": settings.seeds.generate,
                "attack": settings.seeds.attack,
            },
            group=os.environ.get("WANDB_RUN_GROUP") if about.mode == RunMode.MULTIRUN else None,
        )
        for handler in logging.getLogger().handlers:
            handler.addFilter(Filter())
        said, resolved = (OmegaConf.to_container(config, resolve=whole) for whole in (False, True))
        with (
            place.held(own, _described(config)),
            listening(),
        ):  # here as well, for the processes of a launcher
            results = run(settings, folder, label, stated(said, resolved))
    except BaseException as error:
        place.detach()
        place.abandon()
        if not isinstance(error, Exception):
            raise
        if about.mode == RunMode.MULTIRUN:  # the others go on, and Hydra raises it again at the end
            print(f"unlearn: job {about.job.num} failed: {redacted(str(error))}", file=sys.stderr)
            raise
        _failed.append(error)  # of a single run: raised by main(), since Hydra would add words of its own
        return None
    place.detach()
    return None if settings.objective is None else results["scores"][settings.objective]["value"]


def _described(config: DictConfig) -> dict[str, str]:
    """The files that tell how the run was started, as Hydra writes them where it is let."""
    about = HydraConfig.get()
    return {
        "hydra.yaml": OmegaConf.to_yaml(HydraConfig.instance().cfg),
        "config.yaml": OmegaConf.to_yaml(config),
        "overrides.yaml": OmegaConf.to_yaml(about.overrides.task),
    }


def _resolved(config: DictConfig, about: HydraConf) -> RunConfig:
    """The objects of a job. What a sweep sets once may be meant for some of its jobs alone."""
    said = list(about.overrides.task)
    if about.mode != RunMode.MULTIRUN:
        return resolve(config, said=said)
    swept = os.environ.get(SWEPT, "").split()
    chosen = [word for word in said if word.partition("=")[0].lstrip("+") in swept]
    settings = resolve(config, said=chosen)
    for problem in ineffective(settings, config, [word for word in said if word not in chosen]):
        print(f"unlearn: job {about.job.num}: {problem}", file=sys.stderr)
    return settings


def main(words: Sequence[str]) -> None:
    """Runs ``unlearn run`` with the words behind it.

    Raises:
        ConfigError: If they do not compose.
    """
    RunFolder.began = time.time()
    register_schemas(words)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*homes(), os.environ.get("PYTHONPATH")]))
    # Hydra would print a part of the traceback and end the process: the command's own edge says it in a line.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Hydra's parser takes no flag between overrides, and -m is said anywhere.
    flags = [word for word in words if word in ("-m", "--multirun")]
    sys.argv = ["unlearn", *flags, *(word for word in words if word not in flags)]
    try:
        job()
    except _Refused as refused:
        raise refused.error from None
    except (HydraException, OmegaConfBaseException) as error:  # one of them is an OSError, too
        from unlearn.commands.diagnosis import diagnose

        raise ConfigError(diagnose(words) or str(error)) from error
    except OSError as error:  # of the folders that Hydra makes
        if error.errno in FULL or (why := explained(error)) is None:
            raise
        raise ConfigError(why) from error
    if _failed:
        raise _failed.pop()


class _Refused(BaseException):
    """Carries an error through Hydra, which makes a warning of every other one that a callback raises."""

    def __init__(self, error: ConfigError) -> None:
        super().__init__(str(error))
        self.error = error


class Start(Callback):
    """Looks at the folders before Hydra writes to them.

    The jobs of a sweep are told what it sweeps over, and get a common group; one that the user has named in
    ``WANDB_RUN_GROUP`` stays.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Is called before a single run."""
        with _refusing():
            check_writable(Path(config.outputs), "outputs")
            check_writable(Path(config.hydra.run.dir), "hydra.run.dir")
            check_ours(Path(config.hydra.run.dir), f"{config.hydra.job.name}.log")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Is called in the process that starts the jobs, whose environment they inherit."""
        with _refusing():
            check_writable(Path(config.outputs), "outputs")
            check_writable(Path(config.hydra.sweep.dir), "hydra.sweep.dir")
            check_sweep(Path(config.hydra.sweep.dir))
        overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        swept = [o.get_key_element().lstrip("+") for o in overrides if o.is_sweep_override()]
        os.environ[SWEPT] = " ".join(swept)
        os.environ.setdefault("WANDB_RUN_GROUP", time.strftime("sweep-%Y%m%d-%H%M%S"))


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise _Refused(error) from error
    except OmegaConfBaseException:  # Hydra meets it again in a moment, and says it
        return
