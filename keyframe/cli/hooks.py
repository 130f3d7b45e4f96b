"""Hydra callbacks: look at the output directory before anything is written, and end a sweep with its table."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from keyframe.cli.status import is_first_process, read_status
from keyframe.cli.sweep import refresh, sweep_text


class OutputGuard(Callback):
    """Refuses an output directory that cannot be written, or that holds another run."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run directory."""
        if is_first_process():
            self._check(config, Path(config.hydra.run.dir), "hydra.run.dir", "config.yaml")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the sweep directory."""
        self._check(config, Path(config.hydra.sweep.dir), "hydra.sweep.dir", "sweep.csv")

    def _check(self, config: DictConfig, directory: Path, key: str, mark: str) -> None:
        name = f"keyframe-{config.hydra.job.name}"
        if (directory / mark).is_file() and not _left_nothing(directory) and not config.get("ckpt"):
            resume = ", or resume it with ckpt=last" if "ckpt" in config else ""
            sys.exit(f"{name}: {directory} holds a run already: choose another {key}{resume}.")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            probe = directory / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            sys.exit(f"{name}: {key}={directory} cannot be written ({error.strerror}): choose another directory.")


class SweepTable(Callback):
    """Writes the sweep's table after every job; prints it at the end, and fails if a job did."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Refresh the table."""
        if config.hydra.mode == RunMode.MULTIRUN:
            refresh(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the table; exit status 1 if any job failed."""
        directory = Path(config.hydra.sweep.dir)
        rows = refresh(directory)
        print(f"\n{sweep_text(rows)}\n\nSweep: {directory}\nTable: {directory / 'sweep.csv'}")
        failed = [row["job"] for row in rows if row["status"] != "completed"]
        if failed:
            sys.exit(f"keyframe-{config.hydra.job.name}: {len(failed)} of {len(rows)} jobs failed: {', '.join(failed)}")


def _left_nothing(directory: Path) -> bool:
    """Whether the run there has ended before its first checkpoint: there is nothing to lose or to resume."""
    status = read_status(directory)
    ended = status is not None and status.state in ("failed", "interrupted")
    return ended and not any(directory.glob("checkpoints/*.ckpt"))
