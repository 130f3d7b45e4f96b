"""What all commands have in common: Hydra around a task, and errors as one sentence."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from keyframe.cli.status import Status, write_status
from keyframe.config import conf_dir
from keyframe.errors import KeyframeError

log = logging.getLogger(__name__)


def command(name: str, task: Callable[[DictConfig], None]) -> None:
    """Run a task as the Hydra app `keyframe-<name>`, configured by `conf/<name>.yaml`.

    What a user can mend ends in one sentence on stderr and exit status 1. In a sweep the job's failure is written
    into its directory and the sweep goes on.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "0")

    @functools.wraps(task)
    def guarded(config: DictConfig) -> None:
        settings = HydraConfig.get()
        directory = Path(settings.runtime.output_dir)
        write_status(directory, Status("running"))
        try:
            task(config)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into the latter
            write_status(directory, Status("interrupted"))
            print(f"keyframe-{name}: interrupted; what was done is in {directory}", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            sentence = sentence_of(error)
            write_status(directory, Status("failed", sentence or f"{type(error).__name__}: {error}"))
            if settings.mode == RunMode.MULTIRUN:
                log.error("Job %s failed: %s", settings.job.num, sentence or error, exc_info=sentence is None)
                return
            if sentence is None or os.environ["HYDRA_FULL_ERROR"] == "1":
                raise
            fail(name, sentence)
        write_status(directory, Status("completed"))

    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    print(f"keyframe-{name}: {sentence}", file=sys.stderr)
    sys.exit(1)


def sentence_of(error: BaseException) -> str | None:
    """The sentence for a user, or None where the error is not theirs to mend."""
    if isinstance(error, KeyframeError):
        return str(error)
    if isinstance(error, MissingMandatoryValue):
        key = getattr(error, "full_key", None) or getattr(error, "key", None)
        return f"{key} is not set: add {key}=... to the command."
    if isinstance(error, InstantiationException):
        cause = error.__cause__
        if cause is not None and (sentence := sentence_of(cause)):
            return sentence
        first = str(error).splitlines()
        where = next((line.split(":", 1)[1].strip() for line in first if line.startswith("full_key:")), "")
        if isinstance(cause, ValueError | TypeError):
            return f"{where}: {cause}" if where else str(cause)
        return None
    if isinstance(error, ConfigKeyError | OmegaConfBaseException):
        return str(error).splitlines()[0]
    return None
