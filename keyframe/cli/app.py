"""What all commands have in common: Hydra around a task, and errors as one sentence."""

import functools
import logging
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from keyframe.cli.checks import check_values
from keyframe.cli.interruption import listen
from keyframe.cli.resume import is_over, objective_of, overrides_of
from keyframe.cli.sentences import sentence_of
from keyframe.cli.status import Status, is_first_process, write_status
from keyframe.cli.sweep import refresh
from keyframe.config import conf_dir
from keyframe.errors import KeyframeError
from keyframe.locks import claim

log = logging.getLogger(__name__)


def command(name: str, task: Callable[[DictConfig], None]) -> None:
    """Run a task as the Hydra app `keyframe-<name>`, configured by `conf/<name>.yaml`.

    What a user can mend ends in one sentence on stderr and exit status 1. In a sweep the job's failure is written
    into its directory and the sweep goes on; a sweeper is told each job's `val/spearman`.
    """
    full_error = os.environ.get("HYDRA_FULL_ERROR", "0")

    @functools.wraps(task)
    def guarded(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        directory = Path(settings.runtime.output_dir)
        sweep = settings.mode == RunMode.MULTIRUN
        status = partial(Status, overrides=overrides_of(settings))
        try:
            if sweep and is_over(directory, settings):
                print(f"Job {settings.job.num} is done already")  # into no log: its directory stays as it is
                return objective_of(directory)
            # a run's own is claimed before anything is written; a job may outlive the process that has begun the sweep
            lock = claim(directory) if sweep and is_first_process() else nullcontext()
        except KeyframeError as error:
            log.error("Job %s was not run: %s", settings.job.num, error)
            return None
        with lock:
            os.environ["HYDRA_FULL_ERROR"] = full_error
            write_status(directory, status("running"))
            try:
                check_values(config)
                task(config)
            except (KeyboardInterrupt, SystemExit):  # Lightning turns Ctrl-C into the latter
                write_status(directory, status("interrupted"))
                if sweep:
                    refresh(Path(settings.sweep.dir))
                print(f"keyframe-{name}: interrupted; what was done is in {directory}", file=sys.stderr)
                sys.exit(130)
            except Exception as error:
                sentence = sentence_of(error)
                write_status(directory, status("failed", sentence or f"{type(error).__name__}: {error}"))
                if sweep:
                    log.error("Job %s failed: %s", settings.job.num, sentence or error, exc_info=sentence is None)
                    return None
                if sentence is None or full_error == "1":
                    raise
                fail(name, sentence)
            finally:
                if sweep:  # what the sweeper raises is ours to tell again
                    os.environ["HYDRA_FULL_ERROR"] = "1"
            write_status(directory, status("completed"))
        return objective_of(directory)

    # Hydra copies its store of built-in configs, which it only reads, for every group that --help lists: a second.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    # Asked for full errors, Hydra raises its own instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    listen()
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(guarded)()
    except KeyboardInterrupt:  # while jobs ran in other processes, or before there was one
        print(f"keyframe-{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or full_error == "1":
            raise
        fail(name, sentence)


def fail(name: str, sentence: str) -> NoReturn:
    """End the command `keyframe-<name>` with a sentence on stderr and exit status 1."""
    print(f"keyframe-{name}: {sentence}", file=sys.stderr)
    sys.exit(1)
