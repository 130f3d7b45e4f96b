"""Several processes of one training: who may start them, and that the first alone writes."""

import os

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from keyframe.cli.app import fail
from keyframe.cli.status import is_first_process

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
