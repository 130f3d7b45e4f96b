"""Randomness as a function of (seed, epoch, rank, batch): a resumed run draws what an uninterrupted one would.

One plain line an epoch, with what matters and how long is left.

Importance curves of a few videos, drawn while training goes on.

Ctrl-C and a cluster's signals: finish the batch, save, and only then stop.

Loggers without surprises: W&B never prompts and goes offline without a key; a CSV file is never overwritten.
"""

import logging
import math
import netrc
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlparse

import matplotlib.image
import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from keyframe.drawing.curves import draw_curves
from keyframe.system import log_once
from keyframe.training.module import KeyframeModule
from keyframe.types import check_number


class BatchSeed(Callback):
    """Seeds torch before every training batch; Lightning saves no random state.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed dropout for this batch and rank."""
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank, batch_idx))
        torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]) % 2**63)


log = logging.getLogger(__name__)


class EpochLines(Callback):
    """Logs a line after every epoch: stage, loss, validation metrics, seconds, and an estimate of what is left."""

    def __init__(self) -> None:
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock where a run goes on within an epoch, too."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        values = trainer.callback_metrics
        took = time.monotonic() - self._started
        left = took * max(0, (trainer.max_epochs or 0) - trainer.current_epoch - 1)
        parts = [
            f"{name} {float(values[key]):.3f}"
            for name, key in (
                ("loss", "train/loss"),
                ("val Spearman", "val/spearman"),
                ("Kendall", "val/kendall"),
            )
            if key in values
        ]
        if trainer.is_global_zero:
            log.info(
                "epoch %d/%d, stage %d: %s, %.1f s (about %.0f s left)",
                trainer.current_epoch,
                (trainer.max_epochs or 0) - 1,
                int(values.get("train/stage", 1)),
                ", ".join(parts),
                took,
                left,
            )


def quiet_lightning() -> None:
    """Drop what Lightning says that is intended here, or that our own lines say."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        r".*in eval mode at the start of training",  # a frozen backbone
        r".*isinstance\(treespec, LeafSpec\)",  # between Lightning and torch
        r".*does not have many workers",  # held frames need none
        r".*It is recommended to use `self.log\(",  # what we log is gathered over ranks already
        r".*resuming from a checkpoint that ended before the epoch ended",  # our sampler goes on where it was
        r".*Checkpoint directory .* exists and is not empty",  # that of the run that goes on
        r".*The number of training batches .* is smaller than the logging interval",
    ):
        warnings.filterwarnings("ignore", message)


class CurveImages(Callback):
    """Draws the model's and the annotators' curves into PNG files, and into W&B and TensorBoard if they are on.

    Args:
        directory: folder of the PNG files.
        every: epochs between two images of validation videos; the last epoch is always drawn.
        videos: number of videos per image.
    """

    def __init__(self, directory: str, every: int = 5, videos: int = 2) -> None:
        check_number("callbacks.curves.every", every, 1)
        check_number("callbacks.curves.videos", videos, 1)
        self.directory = Path(directory)
        self.every = every
        self.videos = videos

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw validation videos when it is time."""
        epoch = trainer.current_epoch
        last = epoch + 1 == trainer.max_epochs
        if not trainer.sanity_checking and ((epoch + 1) % self.every == 0 or last):
            self._draw(trainer, pl_module, "val", f"val-epoch{epoch:03d}", f"validation videos after epoch {epoch}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw test videos."""
        self._draw(trainer, pl_module, "test", "test", "held-out test videos")

    def _draw(self, trainer: Trainer, module: LightningModule, split: str, name: str, title: str) -> None:
        assert isinstance(module, KeyframeModule)
        if not trainer.is_global_zero:
            return
        figure = draw_curves([p for _, p in sorted(module.predictions.items())[: self.videos]], title)
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{name}.png"
        figure.savefig(path, dpi=110)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"{split}/curves", [str(path)])
            elif isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure(f"{split}/curves", figure, trainer.global_step)


_REQUEUE = getattr(signal, "SIGUSR1", None)  # what `#SBATCH --signal=SIGUSR1@90` sends; Windows has none


class SaveOnSignal(Callback):
    """Saves at the end of the batch in which a signal came, then stops; the run can go on from there to the bit.

    SIGINT (Ctrl-C; a second one stops at once, without saving), SIGTERM, and SIGUSR1, after which a SLURM job is put
    back into the queue. A signal to one rank stops all, at the same batch. Lightning would save from inside the signal
    handler, wherever in a step that is.

    Args:
        path: the checkpoint to write.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._first = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Outside training, while videos are encoded or measured, nothing is to be saved: a job is put back at once."""
        in_main = threading.current_thread() is threading.main_thread()
        if stage == "fit" and _REQUEUE is not None and "SLURM_JOB_ID" in os.environ and in_main:
            self._first = trainer.is_global_zero
            # Lightning notes this handler, and puts it back when training is over
            signal.signal(_REQUEUE, self._requeue_now)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen; Lightning's own handlers are in place by now, and put aside."""
        self.received = None
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals to the main thread only
        for number in (signal.SIGINT, signal.SIGTERM, _REQUEUE):
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, where a signal came and the weights are those of whole steps."""
        last = batch_idx + 1 >= trainer.num_training_batches
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        # the end of an epoch is saved by itself, after validation
        if not last and between_steps and self._stops(trainer):
            trainer.save_checkpoint(self.path)
            self._stop(trainer, f"epoch {trainer.current_epoch}, after batch {batch_idx + 1} of it")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between epochs, where a signal came during the last batch or validation; all is saved."""
        if trainer.current_epoch and self._stops(trainer):
            self._stop(trainer, f"epoch {trainer.current_epoch - 1}, after all of it")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the test, where a signal came during the last epoch."""
        self._restore()
        if self._stops(trainer):
            self._stop(trainer, "the last epoch")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Put back the handlers that were there."""
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        # a log call may be what the signal has interrupted
        os.write(2, b"\nStopping after this batch, with a checkpoint; Ctrl-C again stops at once.\n")

    def _requeue_now(self, number: int, frame: FrameType | None) -> None:
        if self._first:
            _requeue()
        raise KeyboardInterrupt

    def _stops(self, trainer: Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(self.received is not None, all=False)

    def _stop(self, trainer: Trainer, where: str) -> None:
        self._restore()
        if trainer.is_global_zero:
            log.info("Stopped in %s, saved in %s: ckpt=last goes on from there", where, self.path)
            if self.received == _REQUEUE and "SLURM_JOB_ID" in os.environ:
                _requeue()
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def _requeue() -> None:
    """Put this SLURM job back into the queue."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
        log.info("SLURM job %s is back in the queue", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not be put back into the queue (%s): submit it again", job, error)


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
            _log_offline()
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
def _log_offline() -> None:
    message = "W&B: no key found, tracking offline (`wandb login` once to go online, logger=csv for no W&B)."
    log_once(log, logging.INFO, "W&B", message)
