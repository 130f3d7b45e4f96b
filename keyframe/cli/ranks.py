"""Several processes a job, in a sweep: who may start them."""

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

RANKS_IN_SWEEP = (
    "a sweep (-m) with several processes a job would start the whole sweep again in every process: sweep with "
    "trainer=auto, start each job by itself, or let SLURM start the processes (hydra/launcher=submitit_slurm "
    "hydra.launcher.tasks_per_node=DEVICES)."
)


def starts_ranks(hydra: HydraConf) -> bool:
    """Whether the launcher starts a process a device, each with one job and all with the same one, as SLURM does."""
    return str(hydra.launcher["_target_"]).endswith(".SlurmLauncher")


def several(config: DictConfig) -> bool:
    """Whether a configuration asks for several processes, as far as can be told before there is a trainer."""
    trainer = config.get("trainer") or {}
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    many = len(devices) > 1 if OmegaConf.is_list(devices) else devices not in (1, "1", "auto")
    return many or nodes not in (1, "1") or (trainer.get("strategy") is not None and devices == "auto")
