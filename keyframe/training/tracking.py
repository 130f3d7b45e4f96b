"""Loggers without surprises: W&B never prompts and goes offline without a key; a CSV file is never overwritten."""

import logging
import math
import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

import matplotlib.image
import numpy as np
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

log = logging.getLogger(__name__)


def csv_logger(save_dir: str) -> CSVLogger:
    """A CSV logger that writes below the run directory: into `csv`, or `csv-2` and on where a run was resumed.

    Lightning's own would delete the file that is there.
    """
    names = ["csv", *(f"csv-{number}" for number in range(2, 1000))]
    free = next(name for name in names if not (Path(save_dir) / name).exists())
    return CSVLogger(save_dir=save_dir, name=None, version=free)


def wandb_logger(
    save_dir: str,
    project: str = "keyframe",
    name: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    offline: bool | None = None,
) -> WandbLogger:
    """A W&B logger.

    Args:
        save_dir: the run directory; W&B writes below it.
        project: W&B project.
        name: of the run; W&B draws one for None.
        group: what the runs of a sweep have in common.
        tags: of the run.
        offline: None decides by itself: online where a key is set up (WANDB_API_KEY, or `wandb login` was run).
    """
    if offline is None:
        offline = os.environ.get("WANDB_MODE", "") in ("offline", "dryrun") or not _has_key()
        if offline:
            _tell_once()
    return WandbLogger(
        save_dir=save_dir,
        version=_run_id(Path(save_dir)),
        project=project,
        name=name,
        group=group,
        tags=list(tags),
        # not Lightning's offline=True, which sets an environment variable for the rest of the process
        mode="offline" if offline else "online",
        log_model=False,
    )


def _run_id(save_dir: Path) -> str | None:
    """W&B's id of the run in a directory, so that a run that goes on there goes on in W&B too; None for a new one."""
    folders = sorted((save_dir / "wandb").glob("*run-*-*"))  # offline-run-<time>-<id>, or run-<time>-<id>
    return folders[-1].name.rsplit("-", 1)[1] if folders else None


@rank_zero_only
def log_artifact(loggers: Sequence[Logger], checkpoint: Path) -> None:
    """Keep a checkpoint as a W&B artifact, where W&B is on."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            artifact = wandb.Artifact(f"keyframe-{logger.version}", type="model")
            artifact.add_file(str(checkpoint))
            logger.experiment.log_artifact(artifact, aliases=["best"])


def log_report(loggers: Sequence[Logger], metrics: Mapping[str, float], pictures: Sequence[Path]) -> None:
    """Send the numbers and the PNG pictures of an evaluation or comparison to the trackers that are on."""
    for logger in loggers:
        logger.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)})
        if isinstance(logger, WandbLogger):
            for picture in pictures:
                logger.log_image(picture.stem, [str(picture)])
        elif isinstance(logger, TensorBoardLogger):
            for picture in pictures:
                pixels = (matplotlib.image.imread(picture) * 255).astype(np.uint8)
                logger.experiment.add_image(picture.stem, pixels, dataformats="HWC")
        logger.finalize("success")


@rank_zero_only
def finish(loggers: Sequence[Logger]) -> None:
    """End W&B's run, else the next job of a sweep would go on writing into it."""
    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        wandb.finish()


def _has_key() -> bool:
    """Whether WANDB_API_KEY is set, or `wandb login` has left a key in the netrc file.

    Not asked of wandb itself: its own set-up reads the environment once and for all.
    """
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(str(path)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


@rank_zero_only
def _tell_once() -> None:
    if not _told:
        _told.append(True)
        log.info("W&B: no key found, tracking offline (`wandb login` once to go online, logger=csv for no W&B).")


_told: list[bool] = []
