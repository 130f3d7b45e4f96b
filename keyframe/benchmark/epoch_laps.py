"""How long each part of a training with Lightning takes, written down as it goes on."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from keyframe.benchmark.laps import Laps


class EpochLaps(Callback):
    """Writes a line of JSON an epoch: its seconds by part, which add up to the time from one epoch to the next.

    Parts are `wait` (for the next batch), `forward`, `backward`, `step` (clipping and optimizer), `validation`,
    `checkpoint` (and what loggers write, up to the next epoch), and `other` (what callbacks do before that). The first
    line, `{"before": seconds}`, is all from this object's making to the first epoch, where videos are found, decoded
    and encoded; the last, `{"after": seconds}`, all from the last epoch to the end of the test.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._laps = Laps()
        self._training = False
        self._writes = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Of several ranks the first alone writes."""
        self._writes = trainer.is_global_zero

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One epoch is over, the next begins."""
        self._close()
        self._training = True

    def on_train_batch_start(self, *args: Any) -> None:
        """The batch is there."""
        self._lap("wait")

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """The loss is there."""
        self._lap("forward")

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The gradient is there."""
        self._lap("backward")

    def on_train_batch_end(self, *args: Any) -> None:
        """The weights have changed."""
        self._lap("step")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All batches have been trained on."""
        self._lap("other")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All videos are measured."""
        self._lap("validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checkpoints are written next: Lightning calls their callbacks last."""
        self._lap("other")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last epoch is over."""
        self._close()
        self._training = False

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The test is over."""
        self._laps.lap("after")
        self._write(self._laps.collect())

    def _lap(self, part: str) -> None:
        if self._training:
            self._laps.lap(part)

    def _close(self) -> None:
        self._laps.lap("checkpoint" if self._training else "before")
        self._write(self._laps.collect())

    def _write(self, seconds: dict[str, float]) -> None:
        if self._writes:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(seconds) + "\n")
