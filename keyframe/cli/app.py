"""What all commands have in common: Hydra around a task, and errors as one sentence."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from keyframe.cli.checks import check_values
from keyframe.cli.sentences import sentence_of
from keyframe.cli.status import Status, write_status
from keyframe.config import conf_dir

log = logging.getLogger(__name__)


def command(name: str, task: Callable[[DictConfig], None]) -> None:
    """Run a task as the Hydra app `keyframe-<name>`, configured by `conf/<name>.yaml`.

    What a user can mend ends in one sentence on stderr and exit status 1. In a sweep the job's failure is written
    into its directory and the sweep goes on.
    """
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")

    @functools.wraps(task)
    def guarded(config: DictConfig) -> None:
        os.environ["HYDRA_FULL_ERROR"] = full_error
        settings = HydraConfig.get()
        directory = Path(settings.runtime.output_dir)
        write_status(directory, Status("running"))
        try:
            check_values(config)
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
            if sentence is None or full_error == "1":
                raise
            fail(name, sentence)
        write_status(directory, Status("completed"))

    # Hydra copies its store of built-in configs, which it only reads, for every group that --help lists: a second.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    # Asked for full errors, Hydra raises its own instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or full_error == "1":
            raise
        fail(name, sentence)


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    print(f"keyframe-{name}: {sentence}", file=sys.stderr)
    sys.exit(1)
