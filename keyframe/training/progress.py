"""One plain line an epoch, with what matters and how long is left."""

import logging
import time
import warnings

from pytorch_lightning import Callback, LightningModule, Trainer

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
