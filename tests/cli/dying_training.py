"""A training that ends its process once."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer


class DiesOnce(Callback):
    """Kills its process in the middle of an epoch, unless the file is there; it is from then on."""

    def __init__(self, epoch: int, file: str) -> None:
        self.epoch = epoch
        self.file = Path(file)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.current_epoch == self.epoch and batch_idx == 1 and not self.file.exists():
            self.file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
