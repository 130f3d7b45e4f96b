"""Several processes of one training: who may start them, and that the first alone writes.

Hydra's log file of a job, written by the first of its processes alone.

Hydra callbacks: look at the output directory before anything is written, and end a sweep with its table.
"""

import atexit
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from hydra.conf import HydraConf
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.app import fail
from keyframe.cli.arguments import RECORD, check_resumable, how_to_go_on, is_first_process, read_status, save_record
from keyframe.cli.sweep import refresh, sweep_text, write_sweep_report
from keyframe.system import LOCK, lock_folder
from keyframe.types import KeyframeError

RANKS_IN_SWEEP = (
    "a sweep (-m) with several processes a job would start the whole sweep again in every process: sweep with "
    "trainer=auto, start each job by itself, or let SLURM start the processes (hydra/launcher=submitit_slurm "
    "hydra.launcher.tasks_per_node=DEVICES)."
)
# Hydra would have every rank write its configuration into the one run directory.
_SILENT = "hydra.output_subdir=null"


def with_one_directory(arguments: list[str]) -> list[str]:
    """Arguments of a command, changed where it is one rank of several, so that the first alone writes.

    By default a run directory is named after the time, which differs from rank to rank. Lightning tells it to the ranks
    that it starts itself; otherwise it must be named, else the command ends with a sentence.
    """
    asked_only = any(argument in ("--help", "--hydra-help", "--info", "--cfg", "-c") for argument in arguments)
    if asked_only:
        return arguments
    if _started_by_others() and not any(argument.startswith("hydra.run.dir=") for argument in arguments):
        fail(
            "train",
            "all processes of torchrun or srun must write into one directory: add hydra.run.dir=DIR to the command.",
        )
    return arguments if is_first_process() else [*arguments, _SILENT]


def _started_by_others() -> bool:
    """Whether this is one of several processes that torchrun, srun or, on another machine, somebody has started."""
    tasks = os.environ.get("SLURM_NTASKS", "1") if "SLURM_PROCID" in os.environ else "1"
    return "TORCHELASTIC_RUN_ID" in os.environ or int(tasks) > 1 or os.environ.get("NODE_RANK", "0") != "0"


def starts_ranks(hydra: HydraConf) -> bool:
    """Whether the launcher starts a process a device, each with one job and all with the same one, as SLURM does."""
    return str(hydra.launcher["_target_"]).endswith(".SlurmLauncher")


def several(config: DictConfig) -> bool:
    """Whether a configuration asks for several processes, as far as can be told before there is a trainer."""
    trainer = config.get("trainer") or {}
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    many = len(devices) > 1 if OmegaConf.is_list(devices) else devices not in (1, "1", "auto")
    return many or nodes not in (1, "1") or (trainer.get("strategy") is not None and devices == "auto")


class JobLog(logging.FileHandler):
    """A log file; what further ranks say goes nowhere.

    Args:
        filename: the file.
    """

    def __init__(self, filename: str) -> None:
        super().__init__(filename if is_first_process() else os.devnull, encoding="utf-8")


# No part of the callback, which some launchers send to other processes.
_claims: list[IO[bytes]] = []


class OutputGuard(Callback):
    """Refuses an output directory that cannot be written, is in use, or holds another run or sweep.

    Args:
        resume: the sweep directory holds a sweep that is to go on.
    """

    def __init__(self, resume: bool = False) -> None:
        self.resume = resume

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run directory."""
        directory = Path(config.hydra.run.dir)
        if not is_first_process():
            return
        if (directory / "config.yaml").is_file() and not _left_nothing(directory) and not config.get("ckpt"):
            remedy = ", or resume it with ckpt=auto" if "ckpt" in config else ""
            _refuse(config, f"{directory} holds a run already: choose another hydra.run.dir{remedy}.")
        _claim(config, directory, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the sweep directory, and write into it which sweep it is."""
        directory = Path(config.hydra.sweep.dir)
        if several(config) and not starts_ranks(config.hydra):
            _refuse(config, RANKS_IN_SWEEP)
        if self.resume:
            try:
                check_resumable(config, directory)
            except KeyframeError as error:
                _refuse(config, str(error))
        elif any(directory.glob("*/status.json")):
            command = how_to_go_on(config.hydra.job.name, directory)
            _refuse(
                config, f"{directory} holds a sweep already: choose another hydra.sweep.dir, or resume it: {command}"
            )
        made = [place for place in (directory, *directory.parents) if not place.exists()]
        _claim(config, directory, "hydra.sweep.dir")
        atexit.register(_forget_unstarted, directory, made)
        save_record(config, directory)
        print(f"Sweep: {directory}; if it is stopped, go on with {how_to_go_on(config.hydra.job.name, directory)}")


class SweepTable(Callback):
    """Writes the sweep's table after every job; prints it at the end with a report, and fails if a job did."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Refresh the table."""
        if config.hydra.mode == RunMode.MULTIRUN and is_first_process():
            refresh(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the report and print the table; exit status 1 if any job failed."""
        directory, name = Path(config.hydra.sweep.dir), config.hydra.job.name
        jobs = refresh(directory)
        if not jobs:
            return
        write_sweep_report(jobs, directory)
        print(f"\n{sweep_text(jobs)}\n\nTable:  {directory / 'sweep.csv'}\nReport: {directory / 'sweep.html'}")
        failed = [job.name for job in jobs if job.status != "completed"]
        if failed:
            sys.exit(f"keyframe-{name}: {len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}")


def _claim(config: DictConfig, directory: Path, key: str) -> None:
    """Make the directory and have it for this process alone, to its end: two would write the same checkpoints."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _claims.append(lock_folder(directory))
    except KeyframeError as error:
        _refuse(config, str(error))
    except OSError as error:
        _refuse(config, f"{key}={directory} cannot be written ({error.strerror}): choose another directory.")


def _forget_unstarted(directory: Path, made: Sequence[Path]) -> None:
    """Remove a sweep that has ended before its first job, for a typo in what it varies say, and folders made for it."""
    entries = list(directory.iterdir()) if directory.is_dir() else []
    if entries and all(entry.name in (LOCK, RECORD, "multirun.yaml") for entry in entries):
        for entry in entries:
            entry.unlink()
        with suppress(OSError):  # somebody else has put something there
            for place in made:
                place.rmdir()


def _left_nothing(directory: Path) -> bool:
    """Whether the run there has ended before its first checkpoint: there is nothing to lose or to resume."""
    status = read_status(directory)
    ended = status is not None and status.state in ("failed", "interrupted")
    return ended and not any(directory.glob("checkpoints/*.ckpt"))


def _refuse(config: DictConfig, sentence: str) -> None:
    """End the command; Hydra would swallow an exception here."""
    sys.exit(f"keyframe-{config.hydra.job.name}: {sentence}")
